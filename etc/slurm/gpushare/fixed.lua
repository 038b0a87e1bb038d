-- How a share becomes a part of a GPU that is there already, a profile of MIG's or of vGPU's: the smallest that holds the
-- share and the memory. To Slurm it is a GPU of its own type.

local part = ...
local text, amounts, place = part("text"), part("amount"), part("place")
local refuse, show = text.refuse, text.show

local M = {}

local function share_of(profile)
  return profile.num == profile.den and "all" or string.format("%d/%d", profile.num, profile.den)
end

-- What the partition has, as advice.
local function list(backend)
  local words = {}
  for index, profile in ipairs(backend.profiles) do
    words[index] = string.format("gpu:%s (%s of a GPU%s)", profile.type, share_of(profile),
      profile.memory_mib and string.format(", %d MiB", profile.memory_mib) or "")
  end
  return table.concat(words, ", ")
end

local function find_type(backend, name)
  for _, profile in ipairs(backend.profiles) do
    if profile.type == name then return profile end
  end
end

local function holds(profile, ask)
  local have, wanted = profile.num, profile.den
  if ask.num then have, wanted = profile.num * ask.den, ask.num * profile.den end
  local memory = math.max(ask.mib or 0, ask.limit_mib or 0)
  return (ask.mib or have > wanted or have == wanted and not ask.sticky)
    and (memory == 0 or (profile.memory_mib or 0) >= memory)
end

-- The profile for an ask; nil for whole GPUs of a type that is no profile, which Slurm places itself.
local function choose(policy, backend, ask, rule)
  if ask.type then
    local profile = find_type(backend, ask.type)
    if ask.gpus and not profile then return nil end
    if not ask.gpus then
      refuse(rule.name, "%s: a share is of any GPU here: write it without a type, or whole parts, of which there are %s",
        show(ask.recorded), list(backend))
    elseif ask.limit_mib and ask.limit_mib > (profile.memory_mib or 0) then
      refuse(rule.name, "%s: %s has %s: there are %s", show(ask.limit_text), show(ask.recorded),
        profile.memory_mib and string.format("%d MiB", profile.memory_mib) or "memory of a size not known here",
        list(backend))
    end
    return profile
  end
  local minimum = rule.get("minimum_slices")
  for _, profile in ipairs(backend.profiles) do  -- the smallest first
    if holds(profile, ask) and amounts.to_slices(profile, policy.slices_per_gpu) >= minimum then return profile end
  end
  refuse(rule.name, "%s: no part of a GPU here holds %s: there are %s", show(ask.recorded),
    ask.tasks and ask.tasks > 1 and string.format("as much for %d tasks together", ask.tasks) or "as much", list(backend))
end

local function describe(policy, ask, amount, profile, gres)
  local several = amount.gpus > 1
  local message = string.format("%s is %s of the node, %s%s of a GPU: %d %sslices", show(ask.recorded), gres,
    several and "each " or "", share_of(profile), amount.slices,
    several and "" or string.format("of %d ", policy.slices_per_gpu))
  if amount.mib then message = message .. string.format(", %d MiB%s", amount.mib, several and " each" or "") end
  if (ask.tasks or 1) > 1 then
    message = message .. string.format(", for the %d tasks of a node together", ask.tasks)
  end
  return message
end

-- The amount (nil for whole GPUs of the node), the message and the fields of the job to set, as pool.decide gives them.
function M.decide(policy, backend, ask, request, rule)
  ask = place.together(place.for_node(ask, request, rule))
  local profile = choose(policy, backend, ask, rule)
  -- Whole GPUs that were asked for without a type are as many parts as each is one.
  local gpus = ask.gpus or ask.count or 1
  local gres = string.format("gpu:%s:%d", profile and profile.type or ask.type, gpus)
  local slices = amounts.to_slices({ num = gpus * (profile or { num = 1 }).num, den = (profile or { den = 1 }).den },
    policy.slices_per_gpu)
  local set, nodes = place.spread(policy, ask, slices, request, rule)
  set.gres = gres
  if not profile or profile.num == profile.den then place.check_whole(ask, rule) end
  if not profile then
    return nil, string.format("%s is %s, whole GPUs of the node", show(ask.recorded), gres), set
  end
  local amount = {
    gpus = gpus, slices = slices, fraction = profile.num / profile.den, nodes = nodes, mib = profile.memory_mib,
    typed = true,
  }
  local message = describe(policy, ask, amount, profile, gres)
  if backend.advice then message = message .. "; " .. backend.advice end
  return amount, message, set
end

return M
