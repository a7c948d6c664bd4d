"""docs/examples/quickstart.yaml, for installations without a checkout. A test compares the two."""

QUICKSTART = """\
# One broker on localhost:9092, one topic and one monitored consumer group.
#
#   broadsheet up -f docs/examples/quickstart.yaml
#
# Edit this file while it runs: changes are applied within a second of saving.
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
# A topic with three partitions. Records are kept for seven days.
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
# A consumer group. Above these limits its condition LagWithinLimits is False.
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
