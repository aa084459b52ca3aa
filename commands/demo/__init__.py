"""`retail-stream demo` and `up`: the whole pipeline on embedded servers."""
