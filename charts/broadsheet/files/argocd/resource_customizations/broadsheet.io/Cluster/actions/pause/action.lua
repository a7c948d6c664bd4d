-- Nothing about the cluster is changed until it is resumed.
obj.spec.paused = true
return obj
