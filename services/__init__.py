"""The services of the pipeline, one package each; they never import one another."""
