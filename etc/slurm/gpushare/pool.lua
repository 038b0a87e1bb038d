-- How a share of a pool's GPUs becomes licences. In a flat placement there is one count of them for the whole pool. In
-- the others each GPU has its own, gpuN@SERVER, so that Slurm never gives more of a GPU than it has. An allocation lies
-- on GPUs of one server, as much on each; slurm_gpushare/backends/places.py reads them back from the licences.

local part = ...
local text, place = part("text"), part("place")
local refuse, show = text.refuse, text.show

local M = {}

-- By the backend of the policy: the groups below, once for each size, and what was put on each GPU since slurmctld read
-- this file. The one state of the decision.
local states = setmetatable({}, { __mode = "k" })

local function state_of(backend)
  local state = states[backend] or { groups = {}, used = {}, start = os.time() }
  states[backend] = state
  return state
end

-- The licences of the GPUs that one allocation can take together: as many GPUs of one server, disjoint. Single GPUs are
-- listed from the first server's first on, several from the last server's last on, so that the two meet late.
local function groups_of(servers, size)
  local groups = {}
  local function add(server, first)
    local names = {}
    for gpu = first, first + size - 1 do names[#names + 1] = string.format("gpu%d@%s", gpu, server.name or "") end
    groups[#groups + 1] = names
  end
  if size == 1 then
    for _, server in ipairs(servers) do
      for gpu = 0, server.gpus - 1 do add(server, gpu) end
    end
  else
    for index = #servers, 1, -1 do
      for first = servers[index].gpus - size, 0, -size do add(servers[index], first) end
    end
  end
  return groups
end

-- The servers that `gpushare gpu drain` took out of service, as slurmctld shows its reservations here; outside of
-- slurmctld nothing is known of them.
local function out_of_service()
  local found = {}
  for name in pairs(slurm and rawget(slurm, "reservations") or {}) do
    local server = name:match("^gpushare%-drain%-(.+)$")
    if server then found[server] = true end
  end
  return found
end

-- The least used group that is not taken yet, of a server that is out of service only where no other is left. Equals
-- follow each other from a place that a restart makes another one.
local function least_used(state, groups, taken, out)
  local best, least
  for step = 1, #groups do
    local group = groups[(state.start + step) % #groups + 1]
    local used = out[group[1]:match("@(.*)$")] and 1e9 or 0
    for _, name in ipairs(group) do used = used + (state.used[name] or 0) end
    if not taken[group] and (not least or used < least) then best, least = group, used end
  end
  return best
end

-- Licences of GPUs that are chosen here, as often as allocations of this size fit into a GPU.
local function choose(backend, groups, count, per_gpu, fit)
  local state, licences, taken, out = state_of(backend), {}, {}, out_of_service()
  while count > 0 do
    local group, here = least_used(state, groups, taken, out), math.min(count, fit)
    taken[group], count = true, count - here
    for _, name in ipairs(group) do
      state.used[name] = (state.used[name] or 0) + here * per_gpu
      licences[#licences + 1] = string.format("%s:%d", name, here * per_gpu)
    end
  end
  return table.concat(licences, ",")
end

-- Every single GPU, of which Slurm takes the first that has so many licences.
local function any_of(groups, slices)
  local licences = {}
  for index, names in ipairs(groups) do licences[index] = string.format("%s:%d", names[1], slices) end
  return table.concat(licences, "|")
end

-- The servers whose GPUs have the memory that was asked for, and MiB of their GPUs: at least so much has each of them.
local function servers_for(backend, ask)
  if not ask.mib or backend.placement == "flat" then return backend.servers, backend.gpu_memory_mib end
  local fitting, smallest, largest = {}, nil, nil
  for _, server in ipairs(backend.servers) do
    local memory = server.gpu_memory_mib
    if memory and memory >= ask.mib then
      fitting[#fitting + 1], smallest = server, math.min(smallest or memory, memory)
    end
    if memory then largest = math.max(largest or 0, memory) end
  end
  return fitting, smallest or largest
end

local function check_request(ask, request, rule)
  local low, high = request.min_nodes or 1, request.max_nodes
  if ask.type then
    refuse(rule.name, "%s: the pool's GPUs have no types: write --gres=gpu:%s", show(ask.recorded),
      ask.gpus and string.format("%d", ask.gpus) or "0.25")
  elseif request.het_job_offset then
    -- Slurm takes licences from the first component alone.
    refuse(rule.name, "%s: in a heterogeneous job the part with the pool's GPUs comes first: write it before the "
      .. "first :", show(ask.recorded))
  elseif (request.licenses or ""):find("|", 1, true) then
    refuse(rule.name, "--licenses=%s: | cannot be combined with the pool's own licences: write one of them",
      show(request.licenses))
  end
  local own = place.for_node(ask, request, rule)
  -- Without -N clients count the nodes of --nodelist as the least, and name no most.
  if high and low ~= high and not own.pinned then
    refuse(rule.name, "%s: a pool request needs one number of nodes, not a range: write -N %d", show(ask.recorded), low)
  end
  return own
end

-- Refuse what the pool can never hold at once: `fit` allocations of this amount go into each of the groups.
local function check_room(servers, groups, fit, amount, ask, rule)
  local largest = 0
  for _, server in ipairs(servers) do largest = math.max(largest, server.gpus) end
  local room = #groups * fit
  if room == 0 then
    refuse(rule.name, "%s: the largest server of the pool has %d GPU%s: write at most --gres=gpu:%d",
      show(ask.recorded), largest, largest == 1 and "" or "s", largest)
  elseif amount.nodes * amount.tasks > room and amount.tasks > 1 then
    refuse(rule.name, "%s for %d tasks: the pool has room for %d of them: write -n %d, or a smaller share",
      show(ask.recorded), amount.nodes * amount.tasks, room, room)
  elseif amount.nodes > room then
    refuse(rule.name, "%s on %d nodes: the pool has room for %d of them: write -N %d, or a smaller share",
      show(ask.recorded), amount.nodes, room, room)
  end
end

local function licences_of(policy, backend, groups, fit, amount, own)
  local count = amount.nodes * amount.tasks
  if backend.placement == "flat" then
    return string.format("%s:%d", backend.licence, amount.slices * amount.nodes)
  elseif backend.placement == "first_fit" and not own and amount.gpus == 1 and count <= fit then
    return any_of(groups, count * amount.per_gpu)
  end
  return choose(backend, groups, count, amount.per_gpu, fit), true
end

-- The amount, the message, the fields of the job to set, and whether GPUs were chosen here. What is asked for each task is an allocation of its own.
function M.decide(policy, backend, ask, request, rule, name)
  local own = request.licenses ~= "" and request.licenses or nil
  ask = check_request(ask, request, rule)
  local servers, memory = servers_for(backend, ask)
  local amount = place.amount_of(policy, { gpu_memory_mib = memory }, ask, rule)
  if amount.whole then place.check_whole(ask, rule) end
  amount.tasks = ask.tasks or 1
  amount.slices = amount.slices * amount.tasks
  amount.nodes = ask.pinned and 1 or request.min_nodes or 1
  place.node_limit(policy, ask, amount.slices, request, rule)
  local known = servers == backend.servers and state_of(backend).groups or {}
  local groups = known[amount.gpus] or groups_of(servers, amount.gpus)
  known[amount.gpus] = groups
  local fit = math.floor(policy.slices_per_gpu / amount.per_gpu)
  check_room(servers, groups, fit, amount, ask, rule)
  local licences, chosen = licences_of(policy, backend, groups, fit, amount, own)
  local message = place.describe(policy, ask, amount, string.format("in the %s pool", name))
  if amount.tasks > 1 then
    message = string.format("%s, for each of the %d tasks%s", message, amount.tasks,
      amount.nodes > 1 and " of a node" or "")
  end
  if not request.min_nodes and ask.per == "node" then
    message = message .. "; on one node (-N n takes n times as much)"
  elseif amount.nodes > 1 then
    message = message .. string.format(", on each of %d nodes, %d slices in all", amount.nodes,
      amount.slices * amount.nodes)
  end
  if backend.advice then message = message .. "; " .. backend.advice end
  if chosen and request.array then
    message = message .. "; every task of the array waits for the same GPU: single jobs get different ones"
  end
  return amount, message, {
    gres = string.format("%s:%d", backend.gres, amount.slices),
    licenses = own and own .. "," .. licences or licences,
    min_nodes = amount.nodes,
    max_nodes = amount.nodes,
    -- As many allocations as tasks: no node may get more tasks than another.
    ntasks_per_node = amount.tasks > 1 and amount.nodes > 1 and amount.tasks or nil,
  }, chosen
end

return M
