"""An hour of load without faults: what every process and the store hold must stay as it is. `make soak`."""
