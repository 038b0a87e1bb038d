-- Slurm's own tables, read into plain ones: the only file that knows their fields.

local part = ...
local text, requests = part("text"), part("request")

local M = {}

local NO_VAL16, NO_VAL = 65534, 4294967294

-- Variables by which sbatch repeats the request to the srun inside the job, which would then ask for GPUs once more.
M.REPEATED = {
  "SLURM_GPUS", "SLURM_GPUS_PER_NODE", "SLURM_GPUS_PER_TASK", "SLURM_GPUS_PER_SOCKET", "SLURM_TRES_PER_TASK",
}

local function number_or_nil(value)
  if type(value) ~= "number" or value == 0 or value == NO_VAL16 or value == 65535 or value >= NO_VAL then return nil end
  return value
end

local function text_or_nil(value)
  return type(value) == "string" and value ~= "" and value or nil
end

-- Read a job_desc of Slurm's into a request. Texts stay "" where a change clears them. Without part_list (a change) the
-- partition, account and QOS stay as the user left them.
function M.read_request(job_desc, part_list)
  local request = { options = {} }
  for _, field in ipairs(requests.FIELDS) do request[field.name] = job_desc[field.name] end
  for _, name in ipairs({ "licenses", "features", "cpus_per_tres", "mem_per_tres", "tres_freq" }) do
    request[name] = job_desc[name]
  end
  for _, name in ipairs({ "min_nodes", "max_nodes", "ntasks_per_tres", "num_tasks", "ntasks_per_node",
    "het_job_offset" }) do
    request[name] = number_or_nil(job_desc[name])
  end
  request.memory = number_or_nil(job_desc.min_mem_per_node) or number_or_nil(job_desc.min_mem_per_cpu)
  request.marked, request.extra = requests.take_mark(job_desc.extra)
  request.client = request.marked
  request.user = text_or_nil(job_desc.user_name)
  request.account, request.qos = text_or_nil(job_desc.account), text_or_nil(job_desc.qos)
  if part_list then
    request.account = request.account or text_or_nil(job_desc.default_account)
    request.qos = request.qos or text_or_nil(job_desc.default_qos)
  end
  local partition = job_desc.partition or ""
  for name, record in pairs(partition == "" and part_list or {}) do
    if record.flag_default == 1 then partition = name end
  end
  request.partitions = partition ~= "" and text.split(partition, ",") or {}
  for _, entry in pairs(job_desc.spank_job_env or {}) do
    local name, value = entry:match("^_SLURM_SPANK_OPTION_gpushare_([%w_]+)=(.*)$")
    if name then request.options[name] = value end
  end
  return request
end

-- Read Slurm's record of a job; `uid` is who changes it.
function M.read_record(job_rec, uid)
  return {
    extra = job_rec.extra, partition = job_rec.partition, account = job_rec.account, qos = job_rec.qos,
    gres = job_rec.tres_per_node, licenses = job_rec.licenses, min_nodes = number_or_nil(job_rec.min_nodes),
    max_nodes = number_or_nil(job_rec.max_nodes), state = job_rec.job_state, owner = job_rec.user_id == uid,
  }
end

return M
