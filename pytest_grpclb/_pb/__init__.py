"""Messages generated from protos/ when the package is built."""
