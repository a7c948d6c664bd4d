-- What a person may ask of a Cluster. None of it is undone by self-heal, as long as Git does not set the same field.
local function map(value)
  if type(value) == "table" then
    return value
  end
  return {}
end

local spec = map(obj.spec)
local paused = spec.paused == true
local actions = {}
actions["pause"] = { ["disabled"] = paused }
actions["resume"] = { ["disabled"] = not paused }
if spec.brokers ~= nil then
  actions["restart"] = { ["disabled"] = paused }
  actions["rebalance"] = { ["disabled"] = paused }
end
return actions
