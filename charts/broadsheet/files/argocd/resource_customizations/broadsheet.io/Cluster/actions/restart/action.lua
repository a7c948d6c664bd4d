-- Brokers are restarted one by one, in a maintenance window if there are any, once for each value of the annotation.
local os = require("os")
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["broadsheet.io/restart"] = os.date("!%Y-%m-%dT%H:%M:%SZ")
return obj
