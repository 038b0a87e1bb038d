-- slurmctld's side of job_submit/lua, as strict as the real one: a nil or a table assigned to a field raises, as does a
-- text in a number's place; an unknown field reads as nil. Stricter in one thing: an unknown field cannot be assigned
-- (the real one logs an error), and an unknown slurm.* is an error.

local STRINGS = {
  "account", "acctg_freq", "admin_comment", "array_inx", "batch_features", "burst_buffer", "clusters", "comment",
  "container", "cpus_per_tres", "dependency", "exc_nodes", "extra", "features", "gres", "licenses", "mail_user",
  "mem_per_tres", "name", "partition", "prefer", "qos", "req_nodes", "reservation", "script", "std_err", "std_in",
  "std_out", "tres_bind", "tres_freq", "tres_per_job", "tres_per_node", "tres_per_socket", "tres_per_task", "wckey",
  "work_dir",
}
local NUMBERS = { "min_nodes", "max_nodes", "min_cpus", "max_cpus", "num_tasks", "ntasks_per_node", "ntasks_per_tres",
  "cpus_per_task", "min_mem_per_node", "min_mem_per_cpu", "time_limit", "priority", "nice", "requeue", "shared" }
local READ_ONLY = { "user_id", "user_name", "default_account", "het_job_offset", "default_qos", "group_id", "spank_job_env", "spank_job_env_size", "environment", "argv",
  "argc", "alloc_node" }

local kind = {}
for _, name in ipairs(STRINGS) do kind[name] = "string" end
for _, name in ipairs(NUMBERS) do kind[name] = "number" end
for _, name in ipairs(READ_ONLY) do kind[name] = "read" end

local function checked(name, value, wanted)
  local ok = type(value) == wanted or (wanted == "string" and type(value) == "number")
    or (wanted == "number" and tonumber(value) ~= nil)
  if not ok then error(string.format("bad argument #3 to '%s' (%s expected, got %s)", name, wanted, type(value)), 3) end
  return wanted == "number" and tonumber(value) or tostring(value)
end

local function environment_of(store)
  return setmetatable({}, {
    __index = function(_, name) return store[name] end,
    __newindex = function(_, name, value) store[name] = checked(name, value, "string") end,
  })
end

-- A job_desc over a table of fields; `environment` only where the job has one (batch).
function new_job_desc(fields)
  local environment = fields.environment
  return setmetatable({}, {
    __index = function(_, name)
      if type(name) ~= "string" then error("bad argument #2 (string expected)", 2) end
      if name == "environment" then return environment_of(environment or {}) end
      if name == "gres" then name = "tres_per_node" end
      return kind[name] and fields[name]
    end,
    __newindex = function(_, name, value)
      if kind[name] == nil or kind[name] == "read" then error("unrecognized field: " .. tostring(name), 2) end
      value = checked(name, value, kind[name])
      if name == "gres" then
        name = "tres_per_node"
        value = value ~= "" and ("gres/" .. value:gsub(",", ",gres/")):gsub("gres/gres/", "gres/") or value
      end
      if name == "environment" and not environment then error("environment is only there for batch jobs", 2) end
      fields[name] = value ~= "" and value or nil
    end,
  })
end

-- A partition or job record: readable alone.
function new_record(fields)
  return setmetatable({}, {
    __index = fields,
    __newindex = function(_, name) error("a record cannot be written: " .. tostring(name), 2) end,
  })
end

told, logged = {}, {}

local function to(list)
  return function(...)
    list[#list + 1] = string.format(...)
  end
end

slurm = setmetatable({
  SUCCESS = 0, ERROR = -1, NO_VAL = 4294967294, NO_VAL16 = 65534,
  log_user = to(told), log_error = to(logged), log_info = to(logged), log_debug = to(logged),
}, { __index = function(_, name) error("slurm has no " .. tostring(name), 2) end })
