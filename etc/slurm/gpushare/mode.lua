-- Whether the policy is carried out on a job: its `mode`, and `enforce`, which names where that is so already.
--
-- While it only observes, or is off, a job goes to Slurm as it is. What it would have become is in the decision's
-- `observed`, for slurmctld's log and for operators.

local part = ...
local text, requests = part("text"), part("request")
local show = text.show

local M = {}

-- What Slurm could only lose: it knows nothing of the plugin's options, and a job would run without a GPU.
local OPTIONS = { "gpu_share", "gpu_mem", "gpu_backend" }

-- Whether decisions on a job are carried out. One that has a grant keeps to it, whatever the mode is by now.
function M.holds(policy, request)
  if not policy.mode or type(request.changes) == "string" then return true end
  if policy.mode == "off" then return false end
  local enforce = policy.enforce
  for _, name in ipairs(request.partitions) do
    if enforce.partitions[name] then return true end
  end
  return next(enforce.accounts) ~= nil and enforce.accounts[request.account or ""] or false
end

-- The words by which a job asks for what Slurm does not have without us, nil for any other job.
local function words_of_ours(policy, request)
  for _, name in ipairs(OPTIONS) do
    local value = request.options[name]
    if value then return "--" .. name:gsub("_", "-") .. "=" .. value end
  end
  local ok, asks = pcall(requests.find_asks, policy, request)
  for _, ask in ipairs(ok and asks or {}) do
    if not ask.plain then return ask.recorded end
  end
end

-- What a decision changes, in one line; nil where that is nothing.
local function outcome_of(decision)
  if decision.outcome == "refused" then return "refuse by " .. decision.rule .. ": " .. decision.message end
  local fields = {}
  for _, name in ipairs(text.sorted_keys(decision.set)) do
    if name ~= "extra" then fields[#fields + 1] = name .. "=" .. show(decision.set[name]) end
  end
  if #fields == 0 then return nil end
  return (decision.outcome == "granted" and "grant by " or "change by ") .. decision.rule .. ": "
    .. table.concat(fields, " ")
end

-- What becomes of a job on which decisions are not carried out. `decide` is what would: not even a fault of it shall
-- keep the job from Slurm.
function M.leave_alone(policy, request, decide)
  local observed, once
  if policy.mode == "observe" then
    local ok, decision = pcall(text.catching_refusals, decide, policy, request)
    if ok then
      observed, once = outcome_of(decision), decision.once
    else
      observed = "fail by a fault: " .. tostring(decision):gsub("[^ -~]", "?"):sub(1, 300)
    end
  end
  local result = {
    outcome = "untouched", rule = "mode " .. policy.mode, observed = observed, once = once,
    set = request.marked and { extra = request.extra or "" } or {},
  }
  local words = words_of_ours(policy, request)
  if words then
    result.outcome, result.set = "refused", {}
    local line = policy.mode == "off"
      and "%s: shares of GPUs are not given here at present: write whole GPUs, such as --gres=gpu:1"
      or "%s: shares of GPUs are not given to this partition and account yet: write whole GPUs, such as --gres=gpu:1"
    result.message = line:format(show(words))
  end
  return result
end

return M
