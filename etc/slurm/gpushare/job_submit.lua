-- What slurm-gpushare adds to Slurm's job_submit/lua: reads the job, asks gpushare.lua, does what it says.
--
-- /etc/slurm/job_submit.lua includes it by its last line. What that file has defined until then is the site's and runs
-- first: then this sees the partition, the account and the resources that the site's script chose, and nothing comes
-- after it that could change what a grant stands on.
-- Any error of ours refuses the job: before 26.05 a Lua error would let it pass with whatever had been changed until
-- then. Slurm reads job_submit.lua again when its time stamp changes, which `gpushare policy compile` sees to, and with
-- it this file and the policy: they are loaded once, never for each job.

-- slurmctld's folder of configuration: the one above this file's.
local here = debug.getinfo(1, "S").source:match("^@(.*/)gpushare/[^/]*$") or "/etc/slurm/"

local function load_table(name)
  local chunk, why = loadfile(here .. name)
  if not chunk then return nil, why end
  local ok, value = pcall(chunk)
  if ok and type(value) == "table" then return value end
  return nil, ok and here .. name .. " returned no table" or tostring(value)
end

-- By default Lua's collector goes through the whole policy, and the list that Slurm makes of all jobs, whenever memory
-- has doubled: with 200 rules every 60 jobs. At four times it does so a third as often.
collectgarbage("setpause", 400)

local gpushare, policy, broken
gpushare, broken = load_table("gpushare.lua")
if gpushare then policy, broken = load_table("gpushare_policy.lua") end
if policy and policy.v ~= gpushare.POLICY_VERSION then
  broken = "gpushare_policy.lua has version " .. tostring(policy.v) .. ", not " .. tostring(gpushare.POLICY_VERSION)
end
if broken then slurm.log_error("%s", "gpushare: " .. broken .. ": run `gpushare policy compile`") end

local TRES = { "tres_per_node", "tres_per_job", "tres_per_task", "tres_per_socket" }

-- A line for the user with our options as plugstack.conf has them named by prefix=, of which the plugin tells us.
local function spelled(message, job_desc)
  for _, entry in pairs(job_desc.spank_job_env or {}) do
    local prefix = entry:match("^GPUSHARE_PREFIX=([%l%d-]+)$")
    if prefix then
      return (message:gsub("%-%-container%-", "--" .. prefix .. "container-")
        :gsub("%-%-no%-container%-", "--" .. prefix .. "no-container-"):gsub("%-%-dataset", "--" .. prefix .. "dataset"))
    end
  end
  return message
end

-- Tell the user and slurmctld's log, on one line each.
local function refuse(message, for_log)
  message = tostring(message)
  slurm.log_user("%s", "gpushare: " .. message)
  if for_log then slurm.log_error("%s", "gpushare: " .. tostring(for_log)) end
  return slurm.ERROR
end

-- Without a policy only a job that has nothing to do with GPUs or containers may pass.
local function needs_policy(job_desc)
  for _, name in ipairs(TRES) do
    local value = job_desc[name]
    if value and value ~= "" and value:lower():find("[%a_]+[/:]") then return true end
  end
  for _, entry in pairs(job_desc.spank_job_env or {}) do
    if entry:find("_SLURM_SPANK_OPTION_gpushare_", 1, true) == 1 then return true end
  end
  return (job_desc.extra or ""):sub(1, 5) == '{"v":'
end

local function without_policy(job_desc)
  if not needs_policy(job_desc) then return slurm.SUCCESS end
  return refuse("the GPU policy could not be loaded, no GPU or container can be given: tell the administrator", broken)
end

-- The srun inside must not ask for GPUs once more.
local function mend_environment(job_desc)
  local environment = job_desc.environment
  for _, name in ipairs(gpushare.REPEATED) do
    if environment[name] then environment[name] = "" end
  end
end

-- What the policy would have done to a job, where it only observes: one line for slurmctld's log, which `gpushare policy
-- observed` reads, and for operators.
local function tell_observed(request, observed)
  local function word(value) return (tostring(value or "-"):gsub("[^!-~]", "?")) end
  local user = request.user
  slurm.log_info("%s", string.format("gpushare: observed: user=%s account=%s partition=%s would %s", word(user),
    word(request.account), word(table.concat(request.partitions, ",")), observed))
  if policy.operators[user or ""] then slurm.log_user("%s", "gpushare: this policy would " .. observed) end
end

local function apply(job_desc, decision, request)
  if decision.observed then tell_observed(request, decision.observed) end
  if decision.outcome == "refused" then return refuse(spelled(decision.message, job_desc)) end
  for field, value in pairs(decision.set) do job_desc[field] = value end
  if decision.set.gres and job_desc.script then mend_environment(job_desc) end
  if decision.message then slurm.log_user("%s", "gpushare: " .. spelled(decision.message, job_desc)) end
  return slurm.SUCCESS
end

-- A job of root's by which `gpushare gpu drain` keeps a GPU of a node from jobs: no limit of the policy is for it.
local HOLDER = "gpushare-drain"

local function submit(job_desc, part_list, client, submit_uid)
  if submit_uid == 0 and job_desc.name == HOLDER and gpushare then
    local marked, extra = gpushare.take_mark(job_desc.extra)
    if marked then job_desc.extra = extra end
    return slurm.SUCCESS
  end
  if broken then return without_policy(job_desc) end
  local request = gpushare.read_request(job_desc, part_list)
  request.client = client
  local status = apply(job_desc, gpushare.decide(policy, request), request)
  if status == slurm.SUCCESS and request.options.container_image then
    for _, line in ipairs(gpushare.advice(policy, request)) do
      slurm.log_user("%s", "gpushare: " .. spelled(line, job_desc))
    end
  end
  return status
end

local function modify(job_desc, job_rec, submit_uid)
  if submit_uid == 0 then return slurm.SUCCESS end  -- root may mend a job
  if broken then return without_policy(job_desc) end
  local change = gpushare.read_request(job_desc)
  return apply(job_desc, gpushare.decide_change(policy, change, gpushare.read_record(job_rec, submit_uid)), change)
end

-- Run one of the two; whatever goes wrong refuses.
local function guarded(action, ...)
  local ok, result = pcall(action, ...)
  if ok then return result end
  local told, status = pcall(refuse, "a fault in the GPU policy's code stopped this: tell the administrator", result)
  return told and status or slurm.ERROR
end

-- The status by which the site's script refuses, nil where it lets the job go on; and its fault. What is no number
-- Slurm takes for success.
local function ask_site(site, ...)
  if not site then return nil end
  local ok, status = pcall(site, ...)
  if not ok then return nil, status end
  status = tonumber(status)
  return status ~= slurm.SUCCESS and status or nil
end

-- What of ours follows on the site's. A fault of the site's goes on to Slurm, which does with it what it does without
-- us: before 26.05 it lets the job go on, so what we decide must be done by then.
local function conclude(fault, status)
  if not fault then return status end
  if status == slurm.SUCCESS then error(fault, 0) end
  slurm.log_error("%s", "gpushare: refused what the site's job_submit.lua failed on: " .. tostring(fault))
  return status
end

local site_submit, site_modify = slurm_job_submit, slurm_job_modify

function slurm_job_submit(job_desc, part_list, submit_uid)
  -- The site's script may put its own words in the place of cli_filter's mark.
  local client = site_submit and gpushare and gpushare.take_mark(job_desc.extra) or nil
  local refused, fault = ask_site(site_submit, job_desc, part_list, submit_uid)
  return refused or conclude(fault, guarded(submit, job_desc, part_list, client, submit_uid))
end

function slurm_job_modify(job_desc, job_rec, part_list, modify_uid)
  local refused, fault = ask_site(site_modify, job_desc, job_rec, part_list, modify_uid)
  return refused or conclude(fault, guarded(modify, job_desc, job_rec, modify_uid))
end
