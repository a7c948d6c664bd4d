"""The control plane: Cluster, Topic and ConsumerGroup, on Kubernetes or on localhost."""
