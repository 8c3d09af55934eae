"""What pods are doing: a live view of them, and what is said of those that are not well."""
