-- Slurm's own tables, read into plain ones: the only file that knows their fields.

local part = ...
local text, requests, remember = part("text"), part("request"), part("remember")

local M = {}

local NO_VAL16, NO_VAL = 65534, 4294967294
local NO_PARTITION = {}

-- Variables by which sbatch repeats the request to the srun inside the job, which would then ask for GPUs once more.
M.REPEATED = {
  "SLURM_GPUS", "SLURM_GPUS_PER_NODE", "SLURM_GPUS_PER_TASK", "SLURM_GPUS_PER_SOCKET", "SLURM_TRES_PER_TASK",
}

local function number_of(job, field)
  local value = job[field]
  if type(value) ~= "number" or value == 0 or value == NO_VAL16 or value == 65535 or value >= NO_VAL then return nil end
  return value
end

local function text_of(job, field)
  local value = job[field]
  return value ~= "" and value or nil
end

local parse_options = remember.same(function(words)
  local options = {}
  for name, value in words:gmatch("_SLURM_SPANK_OPTION_gpushare_([%w_]+)=([^%z]*)") do options[name] = value end
  return options
end)

-- The options of the SPANK plugin: { name = value }.
local function options_of(job)
  local words = ""
  for _, entry in pairs(job.spank_job_env or {}) do
    if entry:find("^_SLURM_SPANK_OPTION_gpushare_[%w_]+=") then words = words .. entry .. "\0" end
  end
  return parse_options(words)
end

-- Names by user id, kept until the policy is loaded again: each user_name would be one more question to the system's
-- database of users, which may be a directory server. A change says of no user whose it is.
local user_names = {}

local function user_of(job)
  local id = number_of(job, "user_id")
  local name = id and user_names[id] or text_of(job, "user_name")
  if id then user_names[id] = name end
  return name
end

local split_names = remember.same(function(names) return text.split(names, ",") end)

local function partitions_of(job, _, part_list)
  local names = text_of(job, "partition")
  for name, record in pairs(not names and part_list or {}) do
    if record.flag_default == 1 then names = name end
  end
  return names and split_names(names) or NO_PARTITION
end

-- What only jobs with a share or a container need. slurmctld looks for a field by comparing its name with all others,
-- 2 us for each, and most jobs ask for no GPU: so these are read when they are asked for.
local LATER = {
  user = user_of,
  account = function(job, _, part_list)
    return text_of(job, "account") or part_list and text_of(job, "default_account")
  end,
  qos = function(job, _, part_list) return text_of(job, "qos") or part_list and text_of(job, "default_qos") end,
  partitions = partitions_of,
  container = text_of,  -- Slurm's own --container
  features = text_of, cpus_per_tres = text_of, mem_per_tres = text_of, tres_freq = text_of,
  num_tasks = number_of, ntasks_per_node = number_of, ntasks_per_tres = number_of, het_job_offset = number_of,
  array = function(job) return text_of(job, "array_inx") end,
  real = function(job)  -- where paths lead on the submitting host; the user's own words, like all of the environment
    local real
    for _, entry in pairs(job.spank_job_env or {}) do
      local name, path = entry:match("^GPUSHARE_REAL_([%u_%d]+)=(/.*)$")
      local number = name and tonumber(name:match("^MOUNT_(%d%d?)$"))
      if name == "IMAGE" or number then
        real = real or {}
        real[number or "image"] = path
      end
    end
    return real
  end,
  exclusive = function(job) return job.shared == 0 end,  -- --exclusive
  memory = function(job) return number_of(job, "min_mem_per_node") or number_of(job, "min_mem_per_cpu") end,
}

local later = {
  __index = function(request, name)
    local read = LATER[name]
    local value = read and read(request.job, name, request.part_list)
    if value then request[name] = value end
    return value
  end,
}

-- Read a job_desc of Slurm's into a request, with nil or false for what the user did not say. Texts stay "" where a
-- change clears them. Without part_list (a change) the partition, account and QOS stay as the user left them.
function M.read_request(job_desc, part_list)
  local marked, extra = requests.take_mark(job_desc.extra)
  return setmetatable({
    job = job_desc,
    part_list = part_list,
    gres = job_desc.gres or false,
    tres_per_job = job_desc.tres_per_job or false,
    tres_per_task = job_desc.tres_per_task or false,
    tres_per_socket = job_desc.tres_per_socket or false,
    licenses = job_desc.licenses or false,
    min_nodes = number_of(job_desc, "min_nodes") or false,
    max_nodes = number_of(job_desc, "max_nodes") or false,
    options = options_of(job_desc),
    extra = extra,
    marked = marked,
  }, later)
end

-- Read Slurm's record of a job; `uid` is who changes it.
function M.read_record(job_rec, uid)
  return {
    extra = job_rec.extra, partition = job_rec.partition, account = job_rec.account, qos = job_rec.qos,
    gres = job_rec.tres_per_node, licenses = job_rec.licenses, min_nodes = number_of(job_rec, "min_nodes"),
    max_nodes = number_of(job_rec, "max_nodes"), state = job_rec.job_state, owner = job_rec.user_id == uid,
  }
end

return M
