"""The operator on Kubernetes: kopf as informer, queues that reconcile, a lease that says who leads.

kopf's own change handlers are edge-triggered and keep their progress in annotations; nothing here uses them. A watch
event puts an object into the `store` and its key into a queue (`queues`); a reconcile reads the store and the world,
plans with the pure planners, acts, and writes the status if it changed. A resync queues everything again.
"""
