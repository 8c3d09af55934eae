"""The addresses of one cluster, its DNS and its ClusterIPs."""
