-- What a job asks of a GPU, and what it gets: the one decision of slurm-gpushare.
--
-- slurmctld runs this file through job_submit.lua, `gpushare explain` and the tests run the same file. Pure functions
-- over plain tables: nothing here knows Slurm's userdata but read_request, and nothing has side effects.
-- Lua 5.1, as Debian's Slurm has it. The policy is the table that `gpushare policy compile` writes.

local M = {}

M.POLICY_VERSION = 1
M.PREFIX = '{"v":'     -- a job's extra that begins so is a grant, and nobody but job_submit.lua may write one
M.MAX_EXTRA = 1024     -- bytes; slurmctld refuses a longer extra with words that name no option
M.FORGED = "text that begins with " .. M.PREFIX .. " is gpushare's own: write it in another form"
M.NO_VAL16, M.NO_VAL = 65534, 4294967294

local MIB = 1048576
local MAX_TEXT = 256   -- bytes of one request; Slurm itself has no use for longer ones

-- The fields of a job that can name a GPU, and how users write them.
local FIELDS = {
  { name = "gres", option = "--gres" },
  { name = "tres_per_job", option = "--gpus" },
  { name = "tres_per_task", option = "--gpus-per-task" },
  { name = "tres_per_socket", option = "--gpus-per-socket" },
}

-- Refusals -----------------------------------------------------------------------------------------------------------

-- Leave the decision; decide() turns it into the outcome "refused". Anything else that is raised is a fault of ours.
local function refuse(rule, ...)
  error({ refused = string.format(...), rule = rule }, 0)
end

-- User's text fit for one line of a message.
local function show(text)
  text = tostring(text):gsub("[^ -~]", "?")
  if #text > 60 then text = text:sub(1, 57) .. "..." end
  return text
end
M.show = show

local function split(text, separators)
  local parts = {}
  for part in (text .. separators:sub(1, 1)):gmatch("([^" .. separators .. "]*)[" .. separators .. "]") do
    parts[#parts + 1] = part
  end
  return parts
end

local function sorted_keys(map)
  local keys = {}
  for key in pairs(map) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

function M.looks_like_grant(text)
  return type(text) == "string" and text:sub(1, #M.PREFIX) == M.PREFIX
end

-- Numbers ------------------------------------------------------------------------------------------------------------

-- An amount in plain decimal digits: { whole = N, part = digits after the point without trailing zeros, plain = no
-- point }. nil for any other text. The digits stay text, since 0.07 * 100 is more than 7 in binary.
local function parse_amount(text)
  local whole, point, part = text:match("^(%d*)(%.?)(%d*)$")
  if not whole or #whole + #part == 0 then return nil end
  whole = whole:gsub("^0+", "")
  part = part:gsub("0+$", "")
  return { whole = #whole > 9 and math.huge or tonumber(whole) or 0, part = part, plain = point == "" }
end

local NUMBER_WORDS = { nan = true, inf = true, infinity = true, half = true, third = true, quarter = true, all = true }

-- Text that somebody reads as a number, though not as one that we take.
local function is_odd_number(text)
  local lower = text:lower()
  return NUMBER_WORDS[lower] or lower:find("^0x") or lower:find("^%d*%.")
    or lower:find("^%d+e[+-]?%d+$") or lower:find("^%d+[kmgtp]i?b?$")
end

-- A GPU type of Slurm's, such as a100, 2080ti or 1g.10gb.
local function is_type(text)
  return text:find("^[%w_][%w_.-]*$") and text:find("[%a_]") and not is_odd_number(text)
end

-- Slices for the share 0.PART, rounded up; also whether it was on the grid, and the slices rounded down.
local function to_slices(part, slices_per_gpu)
  local head = part:sub(1, 9)
  local scale = 10 ^ #head
  local product = tonumber(head) * slices_per_gpu
  local down = math.floor(product / scale)
  local exact = #part <= 9 and down * scale == product
  return exact and down or down + 1, exact, down
end

local function decimal(number)
  -- A locale's comma would make another number of it.
  return (string.format("%.12g", number):gsub(",", "."))
end

-- The request --------------------------------------------------------------------------------------------------------

-- One entry of a gres list: kind (gres, license or another TRES), name in lower case, what follows the name.
local function parse_item(text)
  local kind = "gres"
  while true do
    local prefix, rest = text:match("^(%a+)[/:](.*)$")
    prefix = prefix and prefix:lower()
    if prefix ~= "gres" and prefix ~= "license" then break end
    kind, text = prefix, rest
  end
  local name, rest = text:match("^([%w_.-]*)(.*)$")
  return { kind = kind, name = name:lower(), text = text, spelled = name, rest = rest }
end

-- What `gpu:...` asks for: { gpus = N } whole GPUs, or { part = digits } of one; plain where Slurm reads it so too.
local function parse_gpu(item)
  local text, rest = item.text, item.rest
  if item.spelled ~= "gpu" then refuse("request", "%s: write gpu in lower case, as in --gres=gpu:0.25", show(text)) end
  if rest == "" then return { gpus = 1, plain = true, text = text } end
  local parts = split(rest:sub(2), ":=")
  local last = parts[#parts]
  local amount = parse_amount(last)
  if #parts == 2 and (is_type(parts[1]) or parts[1]:find("^%d+$")) and amount then
    if amount.part == "" and amount.plain and amount.whole > 0 then
      return { gpus = amount.whole, plain = true, type = parts[1], text = text }
    end
    refuse("request", "%s: a share of a GPU is written without its type: --gres=gpu:%s", show(text),
      amount.whole == 0 and amount.part ~= "" and "0." .. amount.part:sub(1, 9) or "0.25")
  elseif #parts == 2 then
    refuse("request", "%s: not a request for GPUs: write --gres=gpu:0.25 for a share of one, gpu:2 for two", show(text))
  elseif #parts > 2 or last == "" then
    refuse("request", "%s: has %s parts: write --gres=gpu:0.25, or gpu:2 for two GPUs", show(text),
      last == "" and "empty" or "too many")
  elseif not amount then
    if is_type(last) then return { gpus = 1, plain = true, type = last, text = text } end
    refuse("request", "%s: %s is not a number that can be asked for: write the share as a decimal between 0 and 1, "
      .. "--gres=gpu:0.25, or whole GPUs, gpu:2", show(text), show(last))
  elseif amount.part == "" then
    if amount.whole == 0 then
      refuse("request", "%s: asks for nothing: leave it away, or write a share above 0, --gres=gpu:0.25", show(text))
    elseif amount.whole == math.huge then
      refuse("request", "%s: no cluster has so many GPUs: write the number you need, such as gpu:2", show(text))
    end
    return { gpus = amount.whole, plain = amount.plain, text = text }
  elseif amount.whole > 0 then
    refuse("request", "%s: above one GPU only whole GPUs can be had: write gpu:%s, or gpu:0.%s for a share of one",
      show(text), amount.whole == math.huge and "2" or string.format("%d", amount.whole + 1), amount.part:sub(1, 9))
  end
  return { part = amount.part, text = text }
end

-- The gres and licence names that only a grant may take, with the backend that they belong to.
local function guarded_names(policy)
  local gres, licences = {}, {}
  for name, backend in pairs(policy.backends) do
    if backend.servers then
      gres[backend.gres:lower()], licences[backend.licence:lower()] = name, name
    else
      gres[name] = name  -- Slurm names a shared gres after its way of sharing: shard
    end
  end
  return gres, licences
end

-- Slices that the user took by their own name have no grant.
local function by_hand(policy, what, backend, text)
  local count = tonumber(text:match("[:=](%d%d?%d?%d?%d?)$")) or 0
  local share = count > 0 and count < policy.slices_per_gpu and decimal(count / policy.slices_per_gpu) or "0.25"
  refuse("request", "%s: %s of %s are given by gpushare alone: write --gres=gpu:%s", show(text), what, backend, share)
end

-- Everything in the job that names a GPU: the list of asks, each with its field and place in the gres list.
local function find_asks(policy, request)
  local gres, licences = guarded_names(policy)
  local asks, others = {}, {}
  for _, field in ipairs(FIELDS) do
    local value = request[field.name]
    if value and value ~= "" then
      local lower = value:lower()
      local mentions = lower:find("gpu", 1, true)
      for name in pairs(gres) do mentions = mentions or lower:find(name, 1, true) end
      for name in pairs(licences) do mentions = mentions or lower:find(name, 1, true) end
      if mentions then
        if #value > MAX_TEXT then
          refuse("request", "%s: %s is longer than %d characters", show(value), field.option, MAX_TEXT)
        elseif value:find("[^!-~]") then
          refuse("request", "%s: %s has a space, a control character or a letter that is not ASCII: write plain words, "
            .. "such as --gres=gpu:0.25", show(value), field.option)
        end
      end
      for _, text in ipairs(split(value, ",")) do
        local item = parse_item(text)
        local ours = item.kind == "license" and licences[item.name] or item.kind == "gres" and gres[item.name]
        local named = ours or item.kind == "gres" and item.name == "gpu"
        if mentions and text ~= "" and (item.name == "" or named and item.rest:find("^[^:=]")) then
          refuse("request", "%s: not a request for GPUs: write --gres=gpu:0.25, or gpu:2 for two GPUs", show(text))
        elseif ours then
          by_hand(policy, "slices", ours, item.text)
        elseif named then
          local ask = parse_gpu(item)
          ask.option = field.option
          asks[#asks + 1] = ask
        elseif field.name == "gres" and text ~= "" then
          others[#others + 1] = item.text
        end
      end
    end
  end
  for _, text in ipairs(split(request.licenses or "", ",;|")) do
    local name = text:match("^%s*([%w_.-]*)"):lower()
    if licences[name] then by_hand(policy, "licences", licences[name], text) end
  end
  return asks, others
end

-- Containers ---------------------------------------------------------------------------------------------------------

-- The components of an absolute path, nil for any other text. Lexical: the node compares real paths once more.
local function components(path)
  if path:sub(1, 1) ~= "/" or path:find("%c") then return nil end
  local parts = {}
  for part in path:gmatch("[^/]+") do
    if part == ".." then return nil end
    if part ~= "." then parts[#parts + 1] = part end
  end
  return parts
end

local function is_under(path, prefixes)
  local parts = components(path)
  for _, prefix in ipairs(parts and prefixes or {}) do
    local inside = true
    for index, part in ipairs(components(prefix) or { "" }) do inside = inside and parts[index] == part end
    if inside then return true end
  end
  return false
end

local function check_containers(policy, options)
  local image, mounts, datasets, scope =
    options.container_image, options.container_mounts, options.dataset, options.container_scope
  if not image and (mounts or datasets) then
    refuse("containers", "%s needs --container-image=PATH beside it",
      mounts and "--container-mounts=" .. show(mounts) or "--dataset=" .. show(datasets))
  end
  if image and not is_under(image, policy.images) then
    refuse("containers", "--container-image=%s: images are absolute paths without .., below %s", show(image),
      #policy.images > 0 and table.concat(policy.images, " or ") or "no folder: this site allows none")
  end
  for _, mount in ipairs(mounts and split(mounts, ",") or {}) do
    local parts = split(mount, ":")
    local target = parts[2] and components(parts[2])
    if #parts < 2 or #parts > 3 or (parts[3] and parts[3] ~= "ro") or not target or #target == 0 then
      refuse("containers", "--container-mounts=%s: write SRC:DST or SRC:DST:ro, absolute paths without ..", show(mount))
    elseif not is_under(parts[1], policy.mounts) then
      refuse("containers", "--container-mounts=%s: what is mounted must lie below %s", show(mount),
        #policy.mounts > 0 and table.concat(policy.mounts, " or ") or "no folder: this site allows none")
    end
  end
  for _, name in ipairs(datasets and split(datasets, ",") or {}) do
    if not policy.datasets[name] then
      local known = sorted_keys(policy.datasets)
      refuse("containers", "--dataset=%s: no such dataset here: %s", show(name),
        #known > 0 and "known are " .. table.concat(known, ", ") or "the policy has none")
    end
  end
  if scope and scope ~= "job" and scope ~= "tasks" then
    refuse("containers", "--container-scope=%s: write job or tasks", show(scope))
  end
end

-- Backends: how a share becomes resources of Slurm's -----------------------------------------------------------------

-- { slices, gpus, fraction, memory (bytes or nil) } on each node for one ask.
local function amounts(policy, backend, ask, rule)
  local per_gpu = policy.slices_per_gpu
  local slices, exact, down = per_gpu, true, per_gpu
  if ask.part then
    slices, exact, down = to_slices(ask.part, per_gpu)
    if down < policy.minimum_slices then
      local least = decimal(policy.minimum_slices / per_gpu)
      refuse(rule, "%s: below the smallest share, %s of a GPU: write --gres=gpu:%s", show(ask.text), least, least)
    end
  end
  local mib = backend.gpu_memory_mib and math.floor(slices * backend.gpu_memory_mib / per_gpu)
  local gpus = ask.gpus or 1
  return {
    gpus = gpus, fraction = slices / per_gpu, slices = slices * gpus, whole = slices == per_gpu, per_gpu = slices,
    rounded = exact and "" or "rounded up to ", mib = mib,
  }
end

local function describe(policy, ask, amount, where)
  local text
  if amount.whole then
    text = string.format("%s is %s%d whole GPU%s %s: %d slices", show(ask.text), amount.rounded, amount.gpus,
      amount.gpus > 1 and "s" or "", where, amount.slices)
  else
    text = string.format("%s is %s%s of one GPU %s: %d of %d slices", show(ask.text), amount.rounded,
      decimal(amount.fraction), where, amount.slices, policy.slices_per_gpu)
  end
  if amount.mib then
    text = text .. string.format(", %d MiB%s", amount.mib, amount.gpus > 1 and " each" or "")
  end
  return text
end

-- How many allocations of this size the pool can hold at once: an allocation lies on one server, in equal parts.
local function pool_capacity(policy, backend, amount)
  local count, largest = 0, 0
  for _, gpus in ipairs(backend.servers) do
    largest = math.max(largest, gpus)
    count = count + math.floor(gpus / amount.gpus) * math.floor(policy.slices_per_gpu / amount.per_gpu)
  end
  return count, largest
end

local place = {}

function place.shard(policy, backend, ask, request, rule)
  local amount = amounts(policy, backend, ask, rule)
  if amount.whole then
    local set = { gres = string.format("gpu:%d", amount.gpus) }
    return nil, string.format("%s is %s%s, whole GPUs of the node", show(ask.text), amount.rounded, set.gres), set
  end
  amount.nodes = request.min_nodes and request.min_nodes == request.max_nodes and request.min_nodes or 1
  return amount, describe(policy, ask, amount, "of the node"), { gres = "shard:" .. amount.slices }
end

function place.bitfusion(policy, backend, ask, request, rule)
  if ask.type then
    refuse(rule, "%s: the pool's GPUs have no types: write --gres=gpu:%d", show(ask.text), ask.gpus)
  end
  local amount = amounts(policy, backend, ask, rule)
  local low, high = request.min_nodes, request.max_nodes
  -- Without -N clients count the nodes of --nodelist as the least, and name no most.
  if high and (low or 1) ~= high then
    refuse(rule, "%s: a pool request needs one number of nodes, not a range: write -N %d", show(ask.text), low or 1)
  end
  amount.nodes = low or 1
  local capacity, largest = pool_capacity(policy, backend, amount)
  if amount.gpus > largest then
    refuse(rule, "%s: the largest server of the pool has %d GPU%s: write at most --gres=gpu:%d", show(ask.text),
      largest, largest == 1 and "" or "s", largest)
  elseif amount.nodes > capacity then
    refuse(rule, "%s on %d nodes: the pool has room for %d of them: write -N %d, or a smaller share", show(ask.text),
      amount.nodes, capacity, capacity)
  elseif (request.licenses or ""):find("|", 1, true) then
    refuse(rule, "--licenses=%s: | cannot be combined with the pool's own licences: write one of them",
      show(request.licenses))
  end
  local licence = string.format("%s:%d", backend.licence, amount.slices * amount.nodes)
  local text = describe(policy, ask, amount, "in the bitfusion pool")
  if not low then
    text = text .. "; on one node (-N n takes n times as much)"
  elseif low > 1 then
    text = text .. string.format(", on each of %d nodes, %d slices in all", low, amount.slices * low)
  end
  return amount, text, {
    gres = string.format("%s:%d", backend.gres, amount.slices),
    licenses = request.licenses and request.licenses ~= "" and request.licenses .. "," .. licence or licence,
    min_nodes = amount.nodes,
    max_nodes = amount.nodes,
  }
end

-- The grant's text ---------------------------------------------------------------------------------------------------

-- Whether text is UTF-8: every well-formed sequence is taken away, longest first, and no high byte may remain.
local function is_utf8(text)
  for _, pattern in ipairs({
    "\240[\144-\191][\128-\191][\128-\191]", "[\241-\243][\128-\191][\128-\191][\128-\191]",
    "\244[\128-\143][\128-\191][\128-\191]", "\224[\160-\191][\128-\191]", "[\225-\236\238\239][\128-\191][\128-\191]",
    "\237[\128-\159][\128-\191]", "[\194-\223][\128-\191]",
  }) do
    text = text:gsub(pattern, "x")
  end
  return not text:find("[\128-\255]")
end

local function quote(text)
  return '"' .. text:gsub('[%c"\\]', function(char)
    if char == '"' or char == "\\" then return "\\" .. char end
    return string.format("\\u%04x", char:byte())
  end) .. '"'
end

-- The grant as JSON, its keys in the order of grant_to_dict in slurm_gpushare/grant.py. Pure ASCII or the user's UTF-8.
function M.encode_grant(grant)
  return M.PREFIX .. "1" .. string.format(
    ',"backend":%s,"gpus":%d,"fraction":%s,"slices":%d,"memory":%s,"nodes":%d,"rule":%s,"request":%s,"extra":%s}',
    quote(grant.backend), grant.gpus, decimal(grant.fraction), grant.slices,
    grant.memory and string.format("%.0f", grant.memory) or "null", grant.nodes, quote(grant.rule),
    quote(grant.request), quote(grant.extra))
end

-- The decision -------------------------------------------------------------------------------------------------------

-- The backend of the job's partitions (nil where they share nothing) and the name of the rule that says so.
local function backend_of(policy, request)
  local names = request.partitions or {}
  local rule = #names > 1 and "partitions " or "partition "
  rule = rule .. show(#names > 0 and table.concat(names, ",") or "unknown")
  local backend, mixed, pool = nil, false, false
  for index, name in ipairs(names) do
    local this = policy.partitions[name]
    pool = pool or (this and policy.backends[this].servers) and true
    if index == 1 then backend = this elseif this ~= backend then mixed = true end
  end
  return backend, rule, mixed, pool
end

local function shared_partitions(policy)
  local names = sorted_keys(policy.partitions)
  return #names > 0 and "submit to -p " .. table.concat(names, " or -p ") or "this cluster shares no GPUs: write gpu:1"
end

-- What can only be said of whole GPUs of a node, and would make slurmctld refuse the job in words about another option.
local function check_companions(ask, request, rule)
  for _, pair in ipairs({
    { "cpus_per_tres", "--cpus-per-gpu", "--cpus-per-task" }, { "mem_per_tres", "--mem-per-gpu", "--mem" },
    { "ntasks_per_tres", "--ntasks-per-gpu", "--ntasks" }, { "tres_freq", "--gpu-freq", "no frequency" },
  }) do
    if request[pair[1]] and request[pair[1]] ~= "" then
      refuse(rule, "%s: %s counts whole GPUs of a node: write %s instead", show(ask.text), pair[2], pair[3])
    end
  end
end

local function untouched(rule, set, message)
  return { outcome = "untouched", rule = rule, set = set or {}, message = message }
end

local function consider(policy, request)
  if M.looks_like_grant(request.extra) then
    refuse("request", "--extra=%s: %s", show(request.extra), M.FORGED)
  end
  check_containers(policy, request.options or {})
  local asks, others = find_asks(policy, request)
  if #asks == 0 then return untouched("no GPU asked") end

  local backend_name, rule, mixed, pool = backend_of(policy, request)
  local shares, plain = 0, true
  for _, ask in ipairs(asks) do
    if ask.part then shares = shares + 1 end
    plain = plain and ask.plain
    if ask.option ~= "--gres" and (ask.part or pool or not ask.plain) then
      refuse(rule, "%s=%s: write it as --gres=%s, and nothing else that asks for GPUs", ask.option,
        show(ask.text:sub(5)), show(ask.text))
    end
  end
  local ask = asks[1]
  if shares == 0 and plain and not pool then return untouched("whole GPUs of the node") end
  if #asks > 1 then
    refuse(rule, "%s and %s: a job asks for GPUs once: write one --gres=gpu:F", show(ask.text), show(asks[2].text))
  elseif mixed then
    refuse(rule, "%s: these partitions have different kinds of GPUs: name one partition", show(ask.text))
  elseif not backend_name and shares > 0 then
    refuse(rule, "%s: %s has no shared GPUs: %s", show(ask.text), rule, shared_partitions(policy))
  end

  local backend = backend_name and policy.backends[backend_name] or {}
  local amount, message, set = place[backend_name or "shard"](policy, backend, ask, request, rule)
  table.insert(others, 1, set.gres)
  set.gres = table.concat(others, ",")
  if not amount then return untouched("whole GPUs of the node", set, message) end
  check_companions(ask, request, rule)
  local grant = {
    backend = backend_name, gpus = amount.gpus, fraction = amount.fraction, slices = amount.slices,
    memory = amount.mib and amount.mib * MIB, nodes = amount.nodes, rule = rule, request = ask.text,
    extra = request.extra or "",
  }
  if not is_utf8(grant.extra) then
    refuse("request", "--extra=%s: is not UTF-8: write it in UTF-8", show(grant.extra))
  end
  set.extra = M.encode_grant(grant)
  if #set.extra > M.MAX_EXTRA then
    refuse("request", "--extra: %d bytes too long: Slurm keeps %d bytes of it together with the grant",
      #set.extra - M.MAX_EXTRA, M.MAX_EXTRA)
  end
  return { outcome = "granted", grant = grant, set = set, message = message, rule = rule }
end

-- Decide on one request.
--   policy   the compiled policy
--   request  { gres, tres_per_job, tres_per_task, tres_per_socket, licenses, extra, partitions = {names}, min_nodes,
--              max_nodes, cpus_per_tres, mem_per_tres, ntasks_per_tres, tres_freq, options = {SPANK's} };
--              nil or "" where the user said nothing
-- Returns { outcome = "granted" | "untouched" | "refused", grant, set = fields to change, message, rule }.
function M.decide(policy, request)
  local ok, result = pcall(consider, policy, request)
  if ok then return result end
  if type(result) == "table" and result.refused then
    return { outcome = "refused", message = result.refused, rule = result.rule, set = {} }
  end
  error(result, 0)
end

-- Say why a change of a job (`scontrol update`) is refused, nil where it may pass. `change` is a request with only what
-- changes, `record` the job as it stands: { extra, partition }.
function M.decide_change(policy, change, record)
  if M.looks_like_grant(change.extra) then
    return "extra: " .. M.FORGED
  end
  if not M.looks_like_grant(record.extra) then
    local moved = change.partitions and #change.partitions > 0
    local partitions = moved and change.partitions or split(record.partition or "", ",")
    local decision = M.decide(policy, setmetatable({ partitions = partitions, extra = "" }, { __index = change }))
    if decision.outcome == "granted" then
      return "a share of a GPU is given at submission: cancel the job and submit it with --gres="
        .. show(decision.grant.request)
    end
    return decision.outcome == "refused" and decision.message or nil
  end
  local advice = " belongs to the job's share of a GPU: cancel the job and submit it as it should be"
  if change.extra then return "extra" .. advice end
  if change.licenses then return "licenses" .. advice end
  for _, field in ipairs(FIELDS) do
    if change[field.name] then return field.name .. advice end
  end
  local backend_name = record.extra:match('^{"v":%d+,"backend":"([^"]*)"')
  local backend = policy.backends[backend_name or ""]
  if (change.min_nodes or change.max_nodes) and (not backend or backend.servers) then
    return "the number of nodes" .. advice
  end
  for _, name in ipairs(change.partitions or {}) do
    if policy.partitions[name] ~= backend_name then
      return "partition " .. show(name) .. " has not the GPUs of the job's share: cancel it and submit it there"
    end
  end
  return nil
end

-- Slurm's job ---------------------------------------------------------------------------------------------------------

local function number_or_nil(value)
  if type(value) ~= "number" or value == 0 or value == M.NO_VAL16 or value >= M.NO_VAL then return nil end
  return value
end

-- Read a job_desc of Slurm's into a request. Texts stay "" where a change clears them. Without part_list the partition
-- stays as the user left it.
function M.read_request(job_desc, part_list)
  local request = { options = {} }
  for _, field in ipairs(FIELDS) do request[field.name] = job_desc[field.name] end
  for _, name in ipairs({ "licenses", "extra", "cpus_per_tres", "mem_per_tres", "tres_freq" }) do
    request[name] = job_desc[name]
  end
  for _, name in ipairs({ "min_nodes", "max_nodes", "ntasks_per_tres" }) do
    request[name] = number_or_nil(job_desc[name])
  end
  local partition = job_desc.partition or ""
  for name, record in pairs(partition == "" and part_list or {}) do
    if record.flag_default == 1 then partition = name end
  end
  request.partitions = partition ~= "" and split(partition, ",") or {}
  for _, entry in pairs(job_desc.spank_job_env or {}) do
    local name, value = entry:match("^_SLURM_SPANK_OPTION_gpushare_([%w_]+)=(.*)$")
    if name then request.options[name] = value end
  end
  return request
end

return M
