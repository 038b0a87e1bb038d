-- The decision on a change of a job (`scontrol update`): a pending job is decided anew, as it would be after the change.

local part = ...
local text, requests, grants, decision = part("text"), part("request"), part("grant"), part("decision")
local refuse, show = text.refuse, text.show

local M = {}

local PENDING = 0  -- job_states in slurm.h; the states' flags stand above 255
local ADVICE = ": cancel the job and submit it as it should be"

-- Whether the change touches what a grant stands on.
local function concerns_grant(change)
  for _, field in ipairs(requests.FIELDS) do
    if change[field.name] then return field.name end
  end
  return change.licenses and "licenses" or (change.min_nodes or change.max_nodes) and "the number of nodes"
    or #(change.partitions or {}) > 0 and "the partition" or (change.account or change.qos) and "the account or QOS"
    or change.num_tasks and "the number of tasks" or nil
end

-- The job as it would be: the change over the record, and over what the grant's own words asked for.
local function changed_request(policy, change, record, grant)
  local fields, options = {}, {}
  if grant then fields, options = requests.parse_recorded(grant.request) end
  local asks_anew = false
  for _, field in ipairs(requests.FIELDS) do asks_anew = asks_anew or change[field.name] end
  if asks_anew then fields, options = {}, {} end
  local resized = change.min_nodes or change.max_nodes
  local request = {
    partitions = #(change.partitions or {}) > 0 and change.partitions or text.split(record.partition or "", ","),
    account = change.account or record.account, qos = change.qos or record.qos, user = change.user,
    min_nodes = change.min_nodes or not resized and record.min_nodes or nil,
    max_nodes = change.max_nodes or not resized and record.max_nodes or nil,
    num_tasks = change.num_tasks, extra = grant and grant.extra or record.extra, options = options,
    licenses = change.licenses or requests.own_licences(policy, record.licenses), client = true,
    changes = grant and grant.backend or true,
  }
  for _, field in ipairs(requests.FIELDS) do request[field.name] = change[field.name] or fields[field.name] end
  local own = grant and not asks_anew and policy.backends[grant.backend] or nil
  for _, entry in ipairs(own and text.split(record.gres or "", ",") or {}) do
    -- What else the job asked for stays beside the share.
    local name = entry:gsub("^gres[/:]", ""):match("^[%w_.-]*")
    if entry ~= "" and name ~= own.gres then
      request.gres = request.gres and request.gres .. "," .. entry or entry
    end
  end
  return request
end

local function consider(policy, change, record)
  if grants.looks_like(change.extra) then
    refuse("request", "extra: %s", grants.FORGED)
  end
  local granted = grants.looks_like(record.extra)
  local grant = granted and grants.decode(record.extra) or nil
  local touched = concerns_grant(change)
  local nothing = { outcome = "untouched", rule = "no GPU asked", set = {} }
  if granted and change.extra then
    refuse("request", "extra belongs to the job's share of a GPU%s", ADVICE)
  elseif not touched then
    return nothing
  elseif granted and (record.state or PENDING) % 256 ~= PENDING then
    refuse("request", "%s belongs to the job's share of a GPU, and the job has begun%s", touched, ADVICE)
  elseif granted and not (grant and record.owner and policy.backends[grant.backend]) then
    refuse("request", "%s belongs to the job's share of a GPU, which only its owner can change%s", touched, ADVICE)
  elseif grant and grant.request:find("%-%-gpus%-per%-task") and not change.gres then
    refuse("request", "%s belongs to the job's share for each task%s", touched, ADVICE)
  end
  local request = changed_request(policy, change, record, grant)
  local result = decision.decide(policy, request)
  if result.outcome == "refused" then
    refuse(result.rule, "%s", result.message)
  elseif not granted then
    if result.outcome == "granted" and not record.owner then
      refuse("request", "%s: only the job's owner can ask for it%s", show(result.grant.request), ADVICE)
    end
    return result
  end
  -- slurmctld's Lua can put other words into a pending job's extra and licences, but never take the last ones away.
  if result.outcome == "untouched" then
    refuse("request", "%s belongs to the job's share of a GPU%s", touched, ADVICE)
  elseif policy.backends[grant.backend].servers and not result.set.licenses then
    refuse("request", "the job holds licences of %s%s", grant.backend, ADVICE)
  end
  return result
end

-- Decide on a change. `change` is a request with only what changes, `record` the job as it stands: { extra, partition,
-- account, qos, gres, licenses, min_nodes, max_nodes, state, owner = whether its owner changes it }.
-- Returns what decision.decide returns; `set` is what to write beside the change.
function M.decide_change(policy, change, record)
  return text.catching_refusals(consider, policy, change, record)
end

return M
