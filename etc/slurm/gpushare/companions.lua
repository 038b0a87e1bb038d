-- Options that count by GPU, beside a share: Slurm would refuse them, since the rewritten job asks for no GPU. They are
-- refused in words that say what to write, not folded: the client also puts them into the job's environment, where no
-- value, not even an empty one, lets the srun inside pass.

local part = ...
local text, place = part("text"), part("place")
local refuse, show = text.refuse, text.show

local M = {}

-- The number of `gres/gpu:4` or `gres/gpu:2G` times the job's GPUs on a node, with its unit; "" where it is none.
local function times(value, gpus)
  local digits, unit = value:match("^gres[/:]gpu[:=](%d%d?%d?%d?%d?%d?%d?%d?%d?)([KMGTkmgt]?)$")
  return digits and string.format("%d%s", tonumber(digits) * gpus, unit) or "N"
end

local function check_cpus(ask, amount, request, rule)
  local cpus = tonumber(times(request.cpus_per_tres, amount.gpus))
  local tasks = place.tasks_per_node(request)
  refuse(rule.name, "%s: --cpus-per-gpu counts whole GPUs of a node: write --cpus-per-task=%s instead",
    show(ask.recorded), cpus and tasks and cpus % tasks == 0 and string.format("%d", cpus / tasks) or "N")
end

local function given(value) return value and value ~= "" end

-- Refuse what counts by GPU, and put into `set` the main memory that goes with a share by default.
function M.check(set, ask, amount, request, rule)
  if amount.typed then
    -- Slurm counts these GPUs itself.
  elseif request.ntasks_per_tres then
    refuse(rule.name, "%s: --ntasks-per-gpu counts whole GPUs of a node: write --ntasks-per-node=%d instead",
      show(ask.recorded), request.ntasks_per_tres * amount.gpus)
  elseif given(request.cpus_per_tres) then
    check_cpus(ask, amount, request, rule)
  elseif given(request.mem_per_tres) then
    refuse(rule.name, "%s: --mem-per-gpu counts whole GPUs of a node: write --mem=%s instead", show(ask.recorded),
      times(request.mem_per_tres, amount.gpus))
  elseif given(request.tres_freq) then
    refuse(rule.name, "%s: --gpu-freq counts whole GPUs of a node: write no frequency instead", show(ask.recorded))
  end
  local host_memory = rule.get("host_memory_mib")
  if host_memory and not request.memory then
    set.min_mem_per_node = math.ceil(host_memory * amount.gpus * amount.fraction * (amount.tasks or 1))
  end
end

return M
