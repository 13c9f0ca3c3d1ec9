"""The pages of docs/ that are tables of the code, one module for each kind."""
