-- What a job asks of GPUs: every spelling that reaches slurmctld, read into asks.
--
-- Spellings (F a share as 0.25, .25, 25% or 1/4; M memory as 8G, 8GiB or 500M; K a number of GPUs):
--   gpu:F  gpu:M  gpu:F:K  gpu:N        in gres (--gres, --gpus-per-node), tres_per_job (--gpus, -G), tres_per_task
--   gpu:TYPE:F  gpu:TYPE:F:K            the same of one type (Slurm's clients refuse these: see below)
--   --gpu-share=F  --gpu-mem=M  --gpu-backend=NAME   options of the SPANK plugin, in spank_job_env
--
-- Spellings that cli_filter writes into gres, because the client would refuse or lose what the user wrote. F may be
-- any amount above, and :K may follow:
--   gpu:TYPE@F         for gpu:TYPE:F, in --gres, --gpus and --gpus-per-node
--   gpu:task@F         for --gpus-per-task=F (F for each task; -n or --ntasks-per-node say how many)
--   gpu:task@TYPE@F    for --gpus-per-task=TYPE:F
--   gpu:job@F, gpu:job@TYPE@F   for --gpus=F where cli_filter moves it to gres, for srun's and salloc's sake
-- And it marks every job by M.MARK at the beginning of --extra, alone or followed by a comma and the user's own text.
-- The mark is taken away here; with `require_client: true` the policy refuses a job without it.

local part = ...
local text, amount = part("text"), part("amount")
local refuse, show, split = text.refuse, text.show, text.split

local M = {}

M.MARK = "gpushare.client=1"

local MAX_TEXT = 256  -- bytes of one request; Slurm itself has no use for longer ones

-- The fields of a job that can name a GPU, how users write them, and what the amount is for.
M.FIELDS = {
  { name = "gres", option = "--gres", per = "node" },
  { name = "tres_per_job", option = "--gpus", per = "job" },
  { name = "tres_per_task", option = "--gpus-per-task", per = "task" },
  { name = "tres_per_socket", option = "--gpus-per-socket", per = "socket" },
}

-- Taken away from the user's own extra, the mark of cli_filter: true and the rest, or false and the text as it is.
function M.take_mark(extra)
  if not extra or extra:sub(1, #M.MARK) ~= M.MARK then return false, extra end
  local after = extra:sub(#M.MARK + 1)
  if after ~= "" and after:sub(1, 1) ~= "," then return false, extra end
  return true, after:sub(2)
end

-- One entry of a gres list: kind (gres, license or another TRES), name in lower case, what follows the name.
local function parse_item(entry)
  local kind = "gres"
  while true do
    local spelled, rest = entry:match("^([%w_.-]*)(.*)$")
    local name = spelled:lower()
    if name ~= "gres" and name ~= "license" or not rest:find("^[/:]") then
      return { kind = kind, name = name, text = entry, spelled = spelled, rest = rest }
    end
    kind, entry = name, rest:sub(2)
  end
end

-- What the user wrote, as --gres takes it: without what cli_filter put in.
local function gres_form(written)
  if not written:find("@", 1, true) then return written end
  return (written:gsub("task@", ""):gsub("job@", ""):gsub("@", ":"))
end

-- The request as it stands in messages and in the grant: what the user would write again. M.parse_recorded reads it.
local function record_of(ask)
  if ask.option == "--gres" or ask.spank then return ask.gres end
  return ask.option .. "=" .. (ask.gres:match("^gpu[:=](.*)$") or "1")
end

-- Put an amount into an ask.
local function take_amount(ask, word)
  local value = amount.parse(word)
  if not value then
    local advice = "write the share as a decimal between 0 and 1, --gres=gpu:0.25, or whole GPUs, gpu:2"
    if word:find("^%d+%.?%d*[KMGTkmgt][Bb]$") then
      advice = "write memory in powers of 1024, as gpu:" .. word:sub(1, -2)
    end
    refuse("request", "%s: %s is not a number that can be asked for: %s", show(record_of(ask)), show(word), advice)
  elseif value.gpus == math.huge or value.num == math.huge and not word:find("[.%%]") then
    refuse("request", "%s: no cluster has so many GPUs: write the number you need, such as gpu:2", show(record_of(ask)))
  elseif value.gpus == 0 or value.num == 0 and not value.sticky or value.mib == 0 then
    refuse("request", "%s: asks for nothing: leave it away, or write a share above 0, --gres=gpu:0.25", show(record_of(ask)))
  elseif value.num and (value.num > value.den or value.num == value.den and value.sticky) then
    local whole = value.num ~= math.huge and math.floor(value.num / value.den)
    if whole and value.num == whole * value.den and not value.sticky then
      value = { gpus = whole }
    else
      local rest = word:match("%.(%d+)$")
      refuse("request", "%s: above one GPU only whole GPUs can be had: write gpu:%s, or gpu:0.%s for a share of one",
        show(record_of(ask)), whole and string.format("%d", whole + 1) or "2", rest and rest:sub(1, 9) or "5")
    end
  elseif value.num and value.num == value.den then
    value = { gpus = 1 }
  end
  for name, part_of_it in pairs(value) do ask[name] = part_of_it end
end

-- Put a number of GPUs of a share each (gpu:F:K) into an ask.
local function take_count(ask, word)
  local count = amount.parse(word)
  if not (count and count.plain) or count.gpus == 0 or count.gpus == math.huge then
    refuse("request", "%s: %s is not a number of GPUs: write gpu:F:K for K GPUs of F each, such as gpu:0.5:2",
      show(record_of(ask)), show(word))
  end
  ask.count, ask.plain = count.gpus, false
  if ask.gpus then ask.gpus, ask.count = ask.gpus * count.gpus, nil end
end

local function take_type(ask, word)
  if not amount.is_type(word) then
    refuse("request", "%s: %s is no type of GPU: write --gres=gpu:0.25 for a share of one, gpu:2 for two",
      show(record_of(ask)), show(word))
  end
  ask.type = word
end

-- Read `TYPE@F` and its like into an ask.
local function take_filtered(ask, word)
  local words = split(word, "@")
  if words[1] == "task" or words[1] == "job" then
    ask.per = table.remove(words, 1)
    ask.option = ask.per == "task" and "--gpus-per-task" or "--gpus"
  end
  if #words == 2 then take_type(ask, table.remove(words, 1)) end
  if #words ~= 1 then
    refuse("request", "%s: not a request for GPUs: write --gres=gpu:0.25, or gpu:2 for two GPUs", show(record_of(ask)))
  end
  take_amount(ask, words[1])
  ask.plain = false
end

local function not_a_request(entry)
  refuse("request", "%s: not a request for GPUs: write --gres=gpu:0.25 for a share of one, gpu:2 for two",
    show((entry:gsub("@", ":"))))
end

-- What `gpu:...` asks for. An ask has gres (the user's words as --gres takes them), option, per (node, job, task,
-- socket), type, plain (Slurm reads it so too) and either gpus (whole ones), or num, den, sticky, or mib; count where
-- several GPUs of that share are meant.
local function parse_gpu(item, field)
  local ask = { gres = gres_form(item.text), option = field.option, per = field.per, plain = false }
  if item.spelled ~= "gpu" then
    refuse("request", "%s: write gpu in lower case, as in --gres=gpu:0.25", show(item.text))
  elseif item.rest == "" then
    ask.gpus, ask.plain = 1, true
    return ask
  end
  local parts = split(item.rest:sub(2), "[:=]")
  local first, second, third = parts[1], parts[2], parts[3]
  if parts[#parts] == "" then
    refuse("request", "%s: has empty parts: write --gres=gpu:0.25, or gpu:2 for two GPUs", show(item.text))
  elseif #parts > 3 or first == "" then
    if first == "" then not_a_request(item.text) end
    refuse("request", "%s: has too many parts: write --gres=gpu:0.25, or gpu:2 for two GPUs", show(item.text))
  elseif first:find("@", 1, true) then
    take_filtered(ask, first)
    if second then take_count(ask, second) end
    if third then not_a_request(item.text) end
  elseif #parts == 1 then
    if amount.is_type(first) and not amount.parse(first) then
      ask.gpus, ask.type, ask.plain = 1, first, true
    else
      take_amount(ask, first)
    end
  elseif #parts == 2 and amount.parse(first) and not first:find("^%d+$") then
    take_amount(ask, first)
    take_count(ask, second)
  elseif #parts == 2 then
    local value = amount.parse(second)
    if not value or not (amount.is_type(first) or value.plain and first:find("^%d+$")) then not_a_request(item.text) end
    ask.type = first
    take_amount(ask, second)
  else
    if not amount.is_type(first) then not_a_request(item.text) end
    ask.type = first
    take_amount(ask, second)
    take_count(ask, third)
  end
  return ask
end

-- The gres and licence names that only a grant may take, with the backend that they belong to; made once for a policy.
local guarded = setmetatable({}, { __mode = "k" })

local function guarded_names(policy)
  local names = guarded[policy]
  if names then return names.gres, names.licences end
  local gres, servers = {}, {}
  local licences = setmetatable({}, { __index = function(_, name) return servers[name:match("^gpu%d+@(.*)$")] end })
  for name, backend in pairs(policy.backends) do
    if backend.gres == "shard" then
      gres.shard = "shard"  -- of several backends, maybe
    elseif backend.servers then
      gres[backend.gres:lower()] = name
      if backend.licence then licences[backend.licence:lower()] = name end
      for _, server in ipairs(backend.servers) do
        if server.name then servers[server.name] = name end
      end
    end
  end
  guarded[policy] = { gres = gres, licences = licences }
  return gres, licences
end

-- The backend whose licence stands in the text, alone or among those that Slurm may choose from; nil for others.
local function licence_of(licences, entry)
  for word in entry:lower():gmatch("[%w_.@-]+") do
    if licences[word] then return licences[word] end
  end
end

-- Slices that the user took by their own name have no grant.
local function by_hand(policy, what, backend, entry)
  local count = tonumber(entry:match("[:=](%d%d?%d?%d?%d?)$")) or 0
  local share = count > 0 and count < policy.slices_per_gpu and text.decimal(count / policy.slices_per_gpu) or "0.25"
  refuse("request", "%s: %s of %s are given by gpushare alone: write --gres=gpu:%s", show(entry), what, backend, share)
end

local function check_text(option, value)
  if #value > MAX_TEXT then
    refuse("request", "%s: %s is longer than %d characters", show(value), option, MAX_TEXT)
  elseif value:find("[^!-~]") then
    refuse("request", "%s: %s has a space, a control character or a letter that is not ASCII: write plain words, such "
      .. "as --gres=gpu:0.25", show(value), option)
  end
end

local function mentions(value, gres, licences)
  local lower = value:lower()
  if lower:find("gpu", 1, true) then return true end
  for name in pairs(gres) do if lower:find(name, 1, true) then return true end end
  for name in pairs(licences) do if lower:find(name, 1, true) then return true end end
  return false
end

-- The asks of one field, added to `asks`; returns the list without them, as the user wrote it.
local function read_field(policy, field, value, gres, licences, asks)
  local concerned, others = mentions(value, gres, licences), ""
  if concerned then check_text(field.option, value) end
  for entry in value:gmatch("[^,]+") do
    local item = parse_item(entry)
    local ours = item.kind == "gres" and gres[item.name] or item.kind == "license" and licence_of(licences, item.text)
    local named = ours or item.kind == "gres" and item.name == "gpu"
    if concerned and (item.name == "" or named and item.rest:find("^[^:=]")) then
      not_a_request(entry)
    elseif ours then
      by_hand(policy, "slices", ours, item.text)
    elseif named then
      asks[#asks + 1] = parse_gpu(item, field)
    else
      others = others .. (others == "" and "" or ",") .. (field.name == "gres" and item.text or entry)
    end
  end
  return others
end

-- The ask of --gpu-share and --gpu-mem, and the limit that --gpu-mem puts on another ask.
local function read_options(options, asks)
  local share, memory = options.gpu_share, options.gpu_mem
  if share then
    check_text("--gpu-share", share)
    local ask = { gres = "--gpu-share=" .. share, option = "--gpu-share", per = "node", spank = true }
    take_amount(ask, share)
    ask.plain = false
    asks[#asks + 1] = ask
  end
  if not memory then return end
  check_text("--gpu-mem", memory)
  local ask = { gres = "--gpu-mem=" .. memory, option = "--gpu-mem", per = "node", spank = true, plain = false }
  if not (amount.parse(memory) or {}).mib then
    refuse("request", "--gpu-mem=%s: is no amount of memory: write it with its unit, such as --gpu-mem=8G", show(memory))
  end
  take_amount(ask, memory)
  if #asks == 0 then
    asks[1] = ask
  else
    asks[1].limit_mib, asks[1].limit_text = ask.mib, ask.gres
  end
end

-- Everything in the job that names a GPU: the list of asks, and what else stands in each field that was given.
function M.find_asks(policy, request)
  local gres, licences = guarded_names(policy)
  local asks, others = {}, {}
  for _, field in ipairs(M.FIELDS) do
    local value = request[field.name]
    if value and value ~= "" then others[field.name] = read_field(policy, field, value, gres, licences, asks) end
  end
  for entry in (request.licenses or ""):gmatch("[^,;|]+") do
    local ours = licence_of(licences, entry)
    if ours then by_hand(policy, "licences", ours, entry) end
  end
  read_options(request.options, asks)
  for _, ask in ipairs(asks) do
    ask.recorded = record_of(ask) .. (ask.limit_text and " " .. ask.limit_text or "")
  end
  return asks, others
end

-- The fields of a request that a grant's own words stand for: what to decide again when the job changes.
function M.parse_recorded(recorded)
  local fields, options = {}, {}
  for word in recorded:gmatch("[^ ]+") do
    local option, value = word:match("^(%-%-[%a-]+)=(.*)$")
    if option == "--gpu-share" then options.gpu_share = value
    elseif option == "--gpu-mem" then options.gpu_mem = value
    elseif option == "--gpus" then fields.tres_per_job = "gpu:" .. value
    elseif option == "--gpus-per-task" then fields.tres_per_task = "gpu:" .. value
    else fields.gres = word end
  end
  return fields, options
end

-- The user's own licences in a job's list, without those that the grant put there.
function M.own_licences(policy, licences)
  local _, names = guarded_names(policy)
  local own = {}
  for entry in (licences or ""):gmatch("[^,]+") do
    if not licence_of(names, entry) then own[#own + 1] = entry end
  end
  return table.concat(own, ",")
end

return M
