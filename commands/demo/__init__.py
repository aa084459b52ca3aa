"""`retail-stream demo` and `retail-stream up`: the whole pipeline on embedded servers."""
