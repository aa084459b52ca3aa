"""WebAssembly modules: small C passes over buffers, run in a sandbox."""
