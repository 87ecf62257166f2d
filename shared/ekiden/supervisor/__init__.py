"""`ekiden up`: one process that runs the store, the API and the workers on this machine, and ends with all of them."""
