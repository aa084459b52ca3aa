"""The types of numpy arrays that the generator computes with."""

from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
#: A numeric column; of a string field, numbers that say which of a vocabulary each is.
Column = npt.NDArray[Any]
