"""What runs pods: the runner (Kubernetes' kubelet), its probes, and the processes themselves."""
