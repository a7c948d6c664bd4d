-- Health of a Cluster, a Topic or a ConsumerGroup of broadsheet.io. The three kinds have the same script.
--
--   Degraded     only a person can help: the condition Stalled is True
--   Suspended    work is put off on purpose: spec.paused, or a maintenance window that has yet to open
--   Progressing  being created, changed or deleted, or waiting for what may come by itself
--   Healthy      as declared
--
-- Only `ipairs`, `type` and `tostring` are used: a script in argocd-cm runs without Lua's string library. A field that is
-- missing, or that a newer operator writes in another way, must never be an error.

local function map(value)
  if type(value) == "table" then
    return value
  end
  return {}
end

local metadata, status = map(obj.metadata), map(obj.status)
local conditions = {}
for _, condition in ipairs(map(status.conditions)) do
  if type(condition) == "table" and type(condition.type) == "string" then
    conditions[condition.type] = condition
  end
end

local function is_true(kind)
  return conditions[kind] ~= nil and conditions[kind].status == "True"
end

local function reason(kind)
  return conditions[kind] ~= nil and conditions[kind].reason or nil
end

local function words(kind, otherwise)
  local condition = map(conditions[kind])
  local cause, message = condition.reason, condition.message
  if type(message) ~= "string" or message == "" then
    message = otherwise
  end
  if type(cause) == "string" and cause ~= "" and cause ~= "Ready" then
    return cause .. ": " .. message
  end
  return message
end

local function remarks()
  local told = words("Ready", "as declared")
  for _, kind in ipairs({ "InSync", "LagWithinLimits", "CanaryHealthy" }) do
    if conditions[kind] ~= nil and conditions[kind].status == "False" then
      told = told .. "; " .. words(kind, kind .. " is False")
    end
  end
  return told
end

local function health(value, message)
  return { status = value, message = message }
end

if metadata.deletionTimestamp ~= nil then
  return health("Progressing", "being deleted; " .. words("Ready", "waiting for the operator"))
end
if status.observedGeneration == nil then
  return health("Progressing", words("Ready", "waiting for the operator"))
end
if metadata.generation ~= nil and status.observedGeneration ~= metadata.generation then
  local seen, wanted = tostring(status.observedGeneration), tostring(metadata.generation)
  return health("Progressing", "the status is about generation " .. seen .. ", not yet about " .. wanted)
end
if is_true("Stalled") then
  return health("Degraded", words("Stalled", "stalled"))
end
if is_true("Paused") then
  return health("Suspended", words("Paused", "paused"))
end
for _, kind in ipairs({ "Reconciling", "Ready" }) do
  if reason(kind) == "WaitingForMaintenanceWindow" then
    return health("Suspended", words(kind, "waiting for a maintenance window"))
  end
end
if is_true("Reconciling") then
  return health("Progressing", words("Reconciling", "being changed"))
end
if is_true("Ready") then
  -- Lag is about the consumers, not about this resource: it counts only where the resource asks for it.
  local asked = map(metadata.annotations)["broadsheet.io/lag-is-health"] == "true"
  if asked and conditions["LagWithinLimits"] ~= nil and conditions["LagWithinLimits"].status == "False" then
    return health("Degraded", words("LagWithinLimits", "behind its limits"))
  end
  return health("Healthy", remarks())
end
return health("Progressing", words("Ready", "waiting for the operator"))
