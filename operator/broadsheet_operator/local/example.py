"""docs/examples/quickstart.yaml, for where there is no checkout. A test compares the two."""

QUICKSTART = """\
# A Kafka on localhost:9092 with one topic.
#
#   broadsheet up -f docs/examples/quickstart.yaml
#
# Edit this file while it runs: what you save is applied within a second.
apiVersion: broadsheet.io/v1alpha1
kind: Cluster
metadata:
  name: quickstart
spec:
  brokers:
    replicas: 1
  listeners:
    - name: plain
      port: 9092
---
# The newspaper: its sections (partitions) and how long its archive keeps old pages (retention).
apiVersion: broadsheet.io/v1alpha1
kind: Topic
metadata:
  name: orders
spec:
  cluster: quickstart
  partitions: 3
  replicationFactor: 1
  retention:
    time: 7d
---
# The reading club: who reads, and how far behind they are.
apiVersion: broadsheet.io/v1alpha1
kind: ConsumerGroup
metadata:
  name: example-consumer
spec:
  cluster: quickstart
  lag:
    maxRecords: 1000
    maxTime: 5m
"""
