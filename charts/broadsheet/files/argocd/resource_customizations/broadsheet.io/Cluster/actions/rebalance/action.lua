-- Partitions are spread evenly over the brokers, once for each value of the annotation.
local os = require("os")
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["broadsheet.io/rebalance"] = os.date("!%Y-%m-%dT%H:%M:%SZ")
return obj
