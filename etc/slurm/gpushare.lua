-- The decision of slurm-gpushare, made of the files in the folder gpushare beside this one.
--
-- slurmctld runs it through job_submit.lua; `gpushare explain` and the tests run the same files. Pure functions over
-- plain tables: nothing but gpushare/job.lua knows Slurm's userdata, and all that is kept from job to job is the turn
-- in which gpushare/pool.lua takes GPUs, and what gpushare/remember.lua has seen.
-- Lua 5.1, as Debian's Slurm has it. The policy is the table that `gpushare policy compile` writes.

local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "/etc/slurm/"
local loaded = {}

-- Each file is a function of this loader and returns one table; a file names those that it needs at its top.
local function part(name)
  if not loaded[name] then
    local chunk = assert(loadfile(here .. "gpushare/" .. name .. ".lua"))
    loaded[name] = assert(chunk(part), name .. ".lua returned nothing")
  end
  return loaded[name]
end

local decision, change, grant, job, remember, containers, rules, requests, mode =
  part("decision"), part("change"), part("grant"), part("job"), part("remember"), part("containers"), part("rules"),
  part("request"), part("mode")

return {
  POLICY_VERSION = 1,
  decide = remember.remembering(decision.decide),  -- (policy, request): the decision on a new job
  decide_change = change.decide_change,  -- (policy, change, record): the decision on `scontrol update`
  read_request = job.read_request,       -- (job_desc, part_list): Slurm's job as a request
  take_mark = requests.take_mark,        -- (extra): whether cli_filter was there, and extra without its mark
  read_record = job.read_record,         -- (job_rec): Slurm's record of a job
  encode_grant = grant.encode,
  -- (policy, request): lines for the user of a job with a container that was let in
  advice = function(policy, request)
    return mode.holds(policy, request) and containers.advice(policy, rules.find(policy, request), request) or {}
  end,
  -- (policy, request): the names of the datasets that the request's user may use
  open_datasets = function(policy, request)
    return containers.open_datasets(policy, rules.find(policy, request), request.user)
  end,
  REPEATED = job.REPEATED,
}
