-- How a share becomes resources of Slurm's: what all backends have in common, and the GPUs of the nodes (gres/shard).
-- Those of a pool: pool.lua.

local part = ...
local text, amounts = part("text"), part("amount")
local refuse, show, decimal = text.refuse, text.show, text.decimal

local M = {}

-- MiB of one GPU: of the type that was asked for, else of the backend's GPUs; nil where it is not known.
local function gpu_memory(backend, ask)
  local of_type = ask.type and backend.types and backend.types[ask.type]
  return of_type and of_type.gpu_memory_mib or not ask.type and backend.gpu_memory_mib or nil
end

-- Slices of the one share that the backend gives, where it has but one.
local function fixed_slices(policy, backend, ask, slices, rule)
  local fixed = backend.fixed_slices
  if not fixed or slices == fixed or slices == policy.slices_per_gpu then return slices end
  if ask.mib and slices < fixed then return fixed end
  local share = decimal(fixed / policy.slices_per_gpu)
  refuse(rule.name, "%s: the one share that is given here is %s of a GPU: write --gres=gpu:%s", show(ask.recorded), share,
    share)
end

-- Slices of each GPU for an ask, with "rounded up to " where they are more than asked.
local function slices_of(policy, backend, ask, rule)
  local per_gpu = policy.slices_per_gpu
  if ask.gpus then return per_gpu, "" end
  local share = ask
  if ask.mib then
    local memory = gpu_memory(backend, ask)
    if not memory then
      refuse(rule.name, "%s: the memory of these GPUs is not known here: write a share, --gres=gpu:0.25", show(ask.recorded))
    elseif ask.mib > memory then
      refuse(rule.name, "%s: each GPU has %d MiB: write at most gpu:%dM", show(ask.recorded), memory, memory)
    end
    share = { num = ask.mib, den = memory }
  end
  local slices, exact, down = amounts.to_slices(share, per_gpu)
  local minimum = rule.get("minimum_slices")
  if ask.mib then
    slices = math.max(slices, minimum)
  elseif down < minimum then
    local least = decimal(minimum / per_gpu)
    refuse(rule.name, "%s: below the smallest share, %s of a GPU: write --gres=gpu:%s", show(ask.recorded), least, least)
  end
  slices = fixed_slices(policy, backend, ask, slices, rule)
  return slices, exact and slices == down and "" or "rounded up to "
end

-- Tasks on each node; nil where Slurm alone will know.
function M.tasks_per_node(request)
  if request.ntasks_per_node then return request.ntasks_per_node end
  local tasks = request.num_tasks
  local nodes = request.min_nodes and request.min_nodes == request.max_nodes and request.min_nodes
  if not tasks then return 1 end
  if not request.min_nodes and not request.max_nodes then nodes = 1 end
  return nodes and tasks % nodes == 0 and tasks / nodes or nil
end

-- The ask on one node: pinned to one node where it was for the whole job; `tasks` of a node where each has it.
function M.for_node(ask, request, rule)
  if ask.per == "node" then return ask end
  local low, high = request.min_nodes or 1, request.max_nodes
  local own = setmetatable({ pinned = false }, { __index = ask })
  if ask.per == "socket" then
    refuse(rule.name, "%s: a share of a GPU is for a node, a task or a job: write --gpus-per-node=, --gpus-per-task= or "
      .. "--gpus=", show(ask.recorded))
  elseif ask.per == "job" then
    if low > 1 then
      refuse(rule.name, "%s on %d nodes: a job's share lies on one node: write --gres=%s for as much on each node",
        show(ask.recorded), low, show(ask.gres))
    end
    own.pinned = true
    return own
  end
  own.pinned = low == 1 and not high
  local tasks = M.tasks_per_node(request)
  if own.pinned then tasks = request.num_tasks or tasks end
  if request.ntasks_per_node and tasks ~= request.ntasks_per_node then tasks = nil end
  if not tasks then
    refuse(rule.name, "%s: the tasks must be equally many on each node: write -N and --ntasks-per-node beside it",
      show(ask.recorded))
  end
  own.tasks = tasks
  return own
end

-- The ask of a node's tasks together, where they share what is given.
function M.together(ask)
  for _, name in ipairs(ask.tasks and { "gpus", "num", "mib" } or {}) do
    if ask[name] then ask[name] = ask[name] * ask.tasks end
  end
  return ask
end

-- Refuse a share for each task that is more than one GPU when the tasks of a node share one.
local function check_tasks(backend, ask, rule)
  if not ask.tasks or ask.gpus then return end
  local memory = gpu_memory(backend, ask)
  local num, den = ask.num or ask.mib, ask.den or memory
  if den and num / den > 1 then
    local fit = math.max(1, math.floor(den / (num / ask.tasks)))
    refuse(rule.name, "%s: the tasks of a node share one GPU, and %d of them need more: write --ntasks-per-node=%d "
      .. "and as many nodes as that takes, -N %d", show(ask.recorded), ask.tasks, fit, math.ceil(ask.tasks / fit))
  end
end

-- { gpus, per_gpu, slices, fraction, whole, rounded, mib } on each node.
function M.amount_of(policy, backend, ask, rule)
  local per_gpu, rounded = slices_of(policy, backend, ask, rule)
  local gpus = ask.gpus or ask.count or 1
  local memory = gpu_memory(backend, ask)
  local mib = memory and math.floor(per_gpu * memory / policy.slices_per_gpu)
  if ask.limit_mib then
    if mib and ask.limit_mib > mib then
      refuse(rule.name, "%s: %s has %d MiB: write at most --gpu-mem=%dM, or a larger share", show(ask.limit_text),
        show(ask.recorded), mib, mib)
    end
    mib = ask.limit_mib
  end
  return {
    gpus = gpus, per_gpu = per_gpu, slices = per_gpu * gpus, fraction = per_gpu / policy.slices_per_gpu,
    whole = per_gpu == policy.slices_per_gpu, rounded = rounded, mib = mib, limited = ask.limit_mib,
  }
end

function M.describe(policy, ask, amount, where)
  local message
  if amount.whole then
    message = string.format("%s is %s%d whole GPU%s %s: %d slices", show(ask.recorded), amount.rounded, amount.gpus,
      amount.gpus > 1 and "s" or "", where, amount.slices)
  else
    message = string.format("%s is %s%s of %s %s: %d of %d slices%s", show(ask.recorded), amount.rounded,
      decimal(amount.fraction), amount.gpus > 1 and string.format("each of %d GPUs", amount.gpus) or "one GPU", where,
      amount.per_gpu, policy.slices_per_gpu, amount.gpus > 1 and " each" or "")
  end
  if amount.mib then
    message = message .. string.format(", %d MiB%s", amount.mib, amount.gpus > 1 and " each" or "")
  end
  return message
end

-- The largest number of nodes that the rule's limit leaves this amount; nil where there is no limit.
function M.node_limit(policy, ask, slices, request, rule)
  local maximum = rule.get("maximum_slices")
  if not maximum then return nil end
  local nodes = math.floor(maximum / slices)
  local least = request.min_nodes or 1
  if nodes < least then
    local share = decimal(math.floor(maximum / least) / policy.slices_per_gpu)
    refuse(rule.name, "%s%s: %s gives a job at most %s of a GPU in all: %s", show(ask.recorded),
      least > 1 and string.format(" on %d nodes", least) or "", rule.name, decimal(maximum / policy.slices_per_gpu),
      maximum < least and "take fewer nodes" or "write --gres=gpu:" .. share)
  end
  return nodes
end

-- The number of nodes to set for an ask of `slices` on each, and how many it is multiplied for.
function M.spread(policy, ask, slices, request, rule)
  local limit, set = M.node_limit(policy, ask, slices, request, rule), {}
  if ask.pinned then
    set.min_nodes, set.max_nodes = 1, 1
  elseif limit and (request.max_nodes or math.huge) > limit then
    set.max_nodes = limit
  end
  local fixed = not ask.pinned and request.min_nodes and request.min_nodes == request.max_nodes
  return set, fixed and request.min_nodes or 1
end

-- Refuse whole GPUs where the rule has none.
function M.check_whole(ask, rule)
  if rule.get("whole_gpus") == false then
    refuse(rule.name, "%s: %s gives no whole GPUs: write a share, --gres=gpu:0.5", show(ask.recorded), rule.name)
  end
end

-- Limits on whole GPUs that Slurm itself will place: the nodes that they may be on at most, nil where any number.
function M.limit_plain(policy, asks, request, rule)
  local slices = 0
  for _, ask in ipairs(asks) do
    M.check_whole(ask, rule)
    local count = ask.gpus
    if ask.per == "task" then count = count * (request.num_tasks or 1) end
    if ask.per == "node" then count = count * (request.min_nodes or 1) end
    slices = slices + count * policy.slices_per_gpu
  end
  local maximum = rule.get("maximum_slices")
  if maximum and slices > maximum then
    refuse(rule.name, "%s: %s gives a job at most %s of a GPU in all: write --gres=gpu:%s", show(asks[1].recorded),
      rule.name, decimal(maximum / policy.slices_per_gpu), decimal(maximum / policy.slices_per_gpu))
  end
  local per_node = asks[1].per == "node" and #asks == 1 and asks[1].gpus * policy.slices_per_gpu
  return maximum and per_node and request.min_nodes ~= request.max_nodes and math.floor(maximum / per_node) or nil
end

-- The job's constraint with the feature of the nodes that have a type. Steps cannot be made in a job that holds shards of
-- a type ("Invalid generic resource", 24.11.5), so shards are asked for without it and Slurm is told of the nodes instead.
local function constraint(request, ask, feature, rule)
  local own = request.features or ""
  if request.changes then
    refuse(rule.name, "%s: a share of one type cannot be put into a job: cancel it and submit it as it should be",
      show(ask.recorded))
  elseif own:find("[|%[%]*]") then
    refuse(rule.name, "%s beside --constraint=%s: write --constraint with %s in it, and the share without a type",
      show(ask.recorded), show(own), feature)
  end
  return own == "" and feature or own .. "&" .. feature
end

-- Have Slurm give the job's nodes to its user alone, where the backend wants that. JOB_SHARED_USER in slurm.h is 2, and 0
-- (--exclusive) is more than that. In a job that is there Slurm lets its operators alone change it.
local function exclude_others(backend, name, ask, request, rule, set)
  if not backend.exclusive then return end
  if request.changes and request.changes ~= name then
    refuse(rule.name, "%s: a job cannot be moved to where a node is given to one user at a time: cancel it and submit it "
      .. "there", show(ask.recorded))
  elseif not request.changes and not request.exclusive then
    set.shared = 2
  end
end

-- The amount (nil for whole GPUs of the node), the message and the fields of the job to set, as pool.decide gives them.
function M.decide(policy, backend, ask, request, rule, name)
  ask = M.together(M.for_node(ask, request, rule))
  local kind = ask.type and backend.types and backend.types[ask.type]
  if ask.type and not kind and not ask.gpus then
    local known = text.sorted_keys(backend.types or {})
    refuse(rule.name, "%s: no such type of GPU here: %s", show(ask.recorded),
      #known > 0 and "known are " .. table.concat(known, ", ") or "write it without a type, --gres=gpu:0.25")
  end
  check_tasks(backend, ask, rule)
  local amount = M.amount_of(policy, backend, ask, rule)
  local set, nodes = M.spread(policy, ask, amount.slices, request, rule)
  if amount.whole then
    M.check_whole(ask, rule)
    set.gres = string.format("gpu:%s%d", ask.type and ask.type .. ":" or "", amount.gpus)
    return nil, string.format("%s is %s%s, whole GPUs of the node", show(ask.recorded), amount.rounded, set.gres), set
  elseif amount.gpus > 1 then
    local sum = amount.slices / policy.slices_per_gpu
    refuse(rule.name, "%s: shares of a node's GPUs lie on one GPU: write --gres=gpu:%s", show(ask.recorded),
      sum <= 1 and decimal(sum) .. " for as much of one" or string.format("%d for whole ones", math.ceil(sum)))
  end
  amount.nodes = nodes
  exclude_others(backend, name, ask, request, rule, set)
  set.gres = "shard:" .. amount.slices
  if kind and kind.feature then set.features = constraint(request, ask, kind.feature, rule) end
  local message = M.describe(policy, ask, amount, "of the node")
  if (ask.tasks or 1) > 1 then
    message = message .. string.format(", for the %d tasks of a node together", ask.tasks)
  end
  if backend.advice then message = message .. "; " .. backend.advice end
  return amount, message, set
end

return M
