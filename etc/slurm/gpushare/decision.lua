-- The decision on a job: a grant and the resources that it takes, the job as it is, or a refusal.

local part = ...
local text, requests, rules, containers, place, fixed, pool, companions, grants, mode =
  part("text"), part("request"), part("rules"), part("containers"), part("place"), part("fixed"), part("pool"),
  part("companions"), part("grant"), part("mode")
local refuse, show = text.refuse, text.show

local M = {}

local MIB = 1048576

local function contains(list, name)
  for _, item in ipairs(list or {}) do
    if item == name then return true end
  end
  return false
end

-- The backends of a partition that the rule allows, its default first.
local function choices_of(policy, rule, partition)
  local all, allowed = policy.partitions[partition] or {}, rule.get("backends")
  if not allowed then return all end
  local choices = {}
  for _, name in ipairs(all) do
    if contains(allowed, name) then choices[#choices + 1] = name end
  end
  return choices
end

-- Where the rule lets the job have a share, as advice.
local function shared_partitions(policy, rule)
  local names = {}
  for _, name in ipairs(text.sorted_keys(policy.partitions)) do
    if #choices_of(policy, rule, name) > 0 then names[#names + 1] = name end
  end
  return #names > 0 and "submit to -p " .. table.concat(names, " or -p ") or "there are whole GPUs alone: write gpu:1"
end

-- The backend of the job's partitions, nil where they share nothing; whether they do not agree; and whether whole GPUs,
-- too, are decided on here: of a pool, or among parts of GPUs that Slurm takes for GPUs.
local function choose_backend(policy, request, rule)
  local wish, chosen, mixed, decides = request.options.gpu_backend, nil, false, false
  for index, partition in ipairs(request.partitions) do
    local choices = choices_of(policy, rule, partition)
    if wish and not contains(choices, wish) then
      refuse(rule.name, "--gpu-backend=%s: partition %s %s", show(wish), show(partition),
        #choices > 0 and "has " .. table.concat(choices, " or ") or "has no shared GPUs for you: "
          .. shared_partitions(policy, rule))
    end
    local this = wish or choices[1]
    local backend = this and policy.backends[this] or {}
    decides = decides or (backend.servers or backend.profiles) and true
    if index == 1 then chosen = this elseif this ~= chosen then mixed = true end
  end
  return chosen, mixed, decides
end

local function untouched(rule, set, message)
  return { outcome = "untouched", rule = rule, set = set or {}, message = message }
end

-- The job's lists without what asked for GPUs.
local function put_lists(set, request, others)
  for name, rest in pairs(others) do
    if name ~= "gres" then
      if rest ~= request[name] then set[name] = rest end
    elseif rest ~= "" then
      set.gres = set.gres .. "," .. rest
    end
  end
end

local function make_grant(request, ask, amount, backend_name, rule)
  local grant = {
    backend = backend_name, gpus = amount.gpus, fraction = amount.fraction, slices = amount.slices,
    memory = amount.mib and amount.mib * MIB, nodes = amount.nodes, rule = rule.name, request = ask.recorded,
    extra = request.extra or "", tasks = amount.tasks,
  }
  if grant.extra:find("[\128-\255]") and not grants.is_utf8(grant.extra) then
    refuse("request", "--extra=%s: is not UTF-8: write it in UTF-8", show(grant.extra))
  end
  local encoded = grants.encode(grant)
  if #encoded > grants.MAX_EXTRA then
    refuse("request", "--extra: %d bytes too long: Slurm keeps %d bytes of it together with the grant",
      #encoded - grants.MAX_EXTRA, grants.MAX_EXTRA)
  end
  return grant, encoded
end

-- Whole GPUs that Slurm places itself.
local function decide_plain(policy, request, asks, rule)
  local shared = false
  for _, partition in ipairs(request.partitions) do shared = shared or policy.partitions[partition] ~= nil end
  if not shared then return untouched("whole GPUs of the node") end
  containers.check_required(rule, request, asks[1].recorded)
  local nodes = place.limit_plain(policy, asks, request, rule)
  local capped = nodes and (request.max_nodes or math.huge) > nodes
  return untouched("whole GPUs of the node", capped and { max_nodes = nodes } or nil)
end

local function decide_share(policy, request, asks, others, rule)
  local ask, shares, plain = asks[1], 0, true
  for _, each in ipairs(asks) do
    if not each.gpus then shares = shares + 1 end
    plain = plain and each.plain
  end
  local backend_name, mixed, decides = choose_backend(policy, request, rule)
  if shares == 0 and plain and not decides then return decide_plain(policy, request, asks, rule) end
  if #asks > 1 then
    refuse(rule.name, "%s and %s: a job asks for GPUs once: write one --gres=gpu:F", show(ask.recorded),
      show(asks[2].recorded))
  elseif mixed then
    refuse(rule.name, "%s: these partitions have different kinds of GPUs: name one partition", show(ask.recorded))
  elseif not backend_name and shares > 0 then
    refuse(rule.name, "%s: %s has no shared GPUs%s: %s", show(ask.recorded),
      #request.partitions > 0 and "partition " .. show(table.concat(request.partitions, ",")) or
        "partition unknown", rule.get("backends") and " for you" or "", shared_partitions(policy, rule))
  end
  containers.check_required(rule, request, ask.recorded)
  local backend = backend_name and policy.backends[backend_name] or {}
  local placing = backend.servers and pool or backend.profiles and fixed or place
  local amount, message, set, chosen = placing.decide(policy, backend, ask, request, rule, backend_name)
  put_lists(set, request, others)
  if not amount then return untouched("whole GPUs of the node", set, message) end
  containers.check_own(request, ask.recorded)
  if not request.changes then companions.check(set, ask, amount, request, rule) end
  local grant
  grant, set.extra = make_grant(request, ask, amount, backend_name, rule)
  return { outcome = "granted", grant = grant, set = set, message = message, rule = rule.name, once = chosen }
end

local function decide_now(policy, request)
  if policy.require_client and not (request.marked or request.client) then
    refuse("require_client", "this cluster takes jobs from its own login nodes alone, where Slurm's clients have "
      .. "CliFilterPlugins=lua: submit it there")
  end
  local asks, others = requests.find_asks(policy, request)
  local result
  if #asks == 0 and not next(request.options) then
    result = untouched("no GPU asked")
  else
    local rule = rules.find(policy, request)
    containers.check(policy, rule, request)
    if #asks > 0 then
      result = decide_share(policy, request, asks, others, rule)
    else
      if request.options.gpu_backend then
        refuse("request", "--gpu-backend=%s: asks for no GPU: write --gres=gpu:0.25 beside it",
          show(request.options.gpu_backend))
      end
      result = untouched("no GPU asked")
    end
  end
  if request.marked and not result.set.extra then result.set.extra = request.extra end
  return result
end

local function consider(policy, request)
  if grants.looks_like(request.extra) then
    refuse("request", "--extra=%s: %s", show(request.extra), grants.FORGED)
  end
  if mode.holds(policy, request) then return decide_now(policy, request) end
  return mode.leave_alone(policy, request, decide_now)
end

-- Decide on one request.
--   policy   the compiled policy
--   request  { gres, tres_per_job, tres_per_task, tres_per_socket, licenses, extra, partitions = {names}, min_nodes,
--              max_nodes, num_tasks, ntasks_per_node, memory, het_job_offset, cpus_per_tres, mem_per_tres,
--              ntasks_per_tres, tres_freq, user, account, qos, marked = whether cli_filter's mark stood in extra,
--              client = whether it needs none, exclusive = whether it has its nodes for itself, container = Slurm's
--              own --container, changes = in a change, the backend of the job's grant or true, options = {SPANK's} };
--              nil, false or "" where the user said nothing, but partitions and options are always there
-- Returns { outcome = "granted" | "untouched" | "refused", grant, set = fields to change, message, rule,
--   once = whether the next such request gets another answer, observed = what the policy would have done where it does
--   nothing yet }; nobody changes it afterwards.
function M.decide(policy, request)
  return text.catching_refusals(consider, policy, request)
end

return M
