-- What slurm-gpushare adds to Slurm's cli_filter/lua: saves what sbatch, salloc and srun would refuse or lose.
--
-- /etc/slurm/cli_filter.lua includes it by its last line; what that file has defined until then is the site's and runs
-- first.
--
-- It writes such requests into --gres in the spellings at the top of gpushare/request.lua, which clients pass on as
-- they are; job_submit.lua decides on them as on any other. Users can leave this file out by a slurm.conf of their own,
-- so nothing is decided here, and any error lets the request go on as the user wrote it. Needs no other file: it runs
-- wherever users submit.

local MARK = "gpushare.client=1"  -- job_submit.lua takes it away; a policy may refuse jobs without it

-- Options whose share of a GPU moves into --gres, and what it is for, as --gres has to say it. --gpus-per-node stays:
-- newer clients refuse it beside --gres=gpu, even when it is empty.
local MOVED = {
  { name = "gpus", prefix = "job@" },
  { name = "gpus-per-node", stays = true },
  { name = "gpus-per-task", prefix = "task@", careful = true },
}

local function split(text)
  local parts = {}
  for part in text:gmatch("[^,]+") do parts[#parts + 1] = part end
  return parts
end

local function is_type(word)
  return word:find("^[%w_][%w_.-]*$") and word:find("[%a_]") and not word:find("^%d*%.")
    and not word:find("^%d+[KMGTkmgt]$") and not word:find("^%d+[KMGTkmgt]i?[Bb]$") and true or false
end

-- Whether `words`, what follows gpu:, is Slurm's own: N, TYPE or TYPE:N. The client of --gpus-per-task turns TYPE
-- alone, and any other text, into no GPU at all: there only numbers are Slurm's own.
local function is_slurms(words, careful)
  local type = words:match("^(.*)[:=]%d+$")
  return words:find("^%d+$") and true or is_type(type or careful and "" or words)
end

-- What follows gpu: in an entry of a list, where it is not Slurm's own.
local function asks_share(entry)
  local words = entry:match("^gres[/:]gpu[:=](.*)$") or entry:match("^gpu[:=](.*)$")
  return words and not is_slurms(words) and words
end

-- What follows gpu: for the client to pass on: TYPE@F for TYPE:F, since clients count what follows a second colon. A
-- count of GPUs stays behind its colon; what nobody can mean goes to slurmctld, which says what to write.
local function spelled(words)
  local first, second, third = words:match("^([^:=]+)[:=]([^:=]+)[:=]?([^:=]*)$")
  if first and is_type(first) and (third == "" or third:find("^%d+$")) then
    return first .. "@" .. second .. (third ~= "" and ":" .. third or "")
  elseif first and third == "" and second:find("^%d+$") then
    return first .. ":" .. second
  end
  return (words:gsub("[:=]", "@"))
end

-- What changes: { option = text }, and the words by which the user asked for shares.
local function plan(options)
  local set, asked, gres = {}, {}, {}
  for _, entry in ipairs(split(options["gres"] or "")) do
    local words = asks_share(entry)
    gres[#gres + 1] = words and "gpu:" .. spelled(words) or entry
    if words then asked[#asked + 1], set["gres"] = "--gres=gpu:" .. words, "" end
  end
  for _, option in ipairs(MOVED) do
    local value, moved = options[option.name] or "", false
    for _, words in ipairs(split(value)) do moved = moved or not is_slurms(words, option.careful) end
    if moved then
      asked[#asked + 1] = "--" .. option.name .. "=" .. value
      local entries = {}
      for index, words in ipairs(split(value)) do entries[index] = spelled(words) end
      set[option.name] = option.stays and table.concat(entries, ",") or ""
      for _, entry in ipairs(option.stays and {} or entries) do
        gres[#gres + 1], set["gres"] = "gpu:" .. option.prefix .. entry, ""
      end
    end
  end
  local others = {}
  for _, entry in ipairs(split(options["tres-per-task"] or "")) do
    local words = asks_share(entry)
    if words then
      gres[#gres + 1], set["gres"] = "gpu:task@" .. spelled(words), ""
      asked[#asked + 1] = "--tres-per-task=" .. entry
      set["tres-per-task"] = ""
    else
      others[#others + 1] = entry
    end
  end
  if set["tres-per-task"] then set["tres-per-task"] = table.concat(others, ",") end
  if set["gres"] then set["gres"] = table.concat(gres, ",") end
  return set, asked
end

local function say(options, kind, message)
  message = tostring(message):gsub("[^ -~]", "?")
  io.stderr:write(options["type"], ": ", kind, "gpushare: ", message, "\n")
end

local function refuse(options, message)
  say(options, "error: ", message)
  return slurm.ERROR
end

-- A step has the share of its job, and asking slurmctld for a share again fails. job_submit sees no steps. Without any
-- --gres a step has all that the job has, with one, even an empty one, only what it names.
local function step(options, set, asked)
  if #asked == 0 then return slurm.SUCCESS end
  if set["gpus-per-node"] then set["gpus-per-node"] = "" end
  -- What salloc left in its shell is no request of the user's.
  if #asked == 1 and set["gpus-per-node"] and options["gpus-per-node"] == os.getenv("SLURM_GPUS_PER_NODE") then
    options["gpus-per-node"] = ""
    return slurm.SUCCESS
  end
  local words, kept, shares = table.concat(asked, " "), {}, false
  if #words > 60 then words = words:sub(1, 57) .. "..." end
  for _, entry in ipairs(split(options["gres"] or "")) do
    local share = asks_share(entry)
    shares = shares or share
    if not share then kept[#kept + 1] = entry end
  end
  -- On a node the variables say what the job has; in the shell of salloc there are none.
  local slices, licences = os.getenv("SLURM_SHARDS_ON_NODE"), os.getenv("SLURM_JOB_LICENSES")
  if os.getenv("SLURMD_NODENAME") and not slices and not licences then
    return refuse(options, words .. ": there is no share of a GPU here for a step: submit the job with --gres=gpu:0.25")
  elseif shares and not slices and not licences then
    return refuse(options, words .. ": a step has the share of its job: write srun without it")
  end
  if shares and slices and slices:find("^%d+$") then kept[#kept + 1] = "shard:" .. slices end
  set["gres"] = shares and table.concat(kept, ",") or nil
  for name, value in pairs(set) do options[name] = value end
  say(options, "", words .. ": a step has the share of its job: leave it away")
  return slurm.SUCCESS
end

-- What srun and salloc count by GPU they ask of slurmctld again for each step, where no GPU is left to count by.
local function companion(options)
  local cpus, memory = options["cpus-per-gpu"] or "0", options["mem-per-gpu"] or ""
  if cpus ~= "0" and cpus ~= "" then return "--cpus-per-gpu=" .. cpus, "--cpus-per-task" end
  if memory ~= "" then return "--mem-per-gpu=" .. memory, "--mem" end
end

local function filter(options)
  local set, asked = plan(options)
  local job = options["jobid"]
  if options["type"] == "srun" and job and job:find("^%d+$") then return step(options, set, asked) end
  local socket = options["gpus-per-socket"] or ""
  if socket ~= "" and not is_slurms(socket) then
    return refuse(options, "--gpus-per-socket=" .. socket:sub(1, 60) .. ": a share of a GPU is for a node, a task or a "
      .. "job: write --gpus-per-node=, --gpus-per-task= or --gpus=")
  end
  if options["type"] == "srun" and set["gpus-per-node"] then
    local words = options["gpus-per-node"]:sub(1, 60)
    return refuse(options, "--gpus-per-node=" .. words .. ": srun repeats it for each step: write --gres=gpu:" .. words)
  end
  local spank = (options["spank"] or {}).gpushare or {}
  local share = asked[1] or spank["gpu-share"] and "--gpu-share" or spank["gpu-mem"] and "--gpu-mem"
  local counted, instead = companion(options)
  if share and counted and options["type"] ~= "sbatch" then
    return refuse(options, counted .. ": cannot be counted by a share here (" .. share .. "): write " .. instead)
  end
  local extra = options["extra"] or ""
  if extra:sub(1, #MARK) ~= MARK then set["extra"] = MARK .. (extra ~= "" and "," .. extra or "") end
  for name, value in pairs(set) do options[name] = value end
  return slurm.SUCCESS
end

local function ours(options)
  local ok, result = pcall(filter, options)
  if ok then return result end
  pcall(say, options, "", "a fault in cli_filter.lua, the request goes on as it is: " .. tostring(result))
  return slurm.SUCCESS
end

local site_setup, site_submit, site_post = slurm_cli_setup_defaults, slurm_cli_pre_submit, slurm_cli_post_submit

function slurm_cli_setup_defaults(...)
  if site_setup then return site_setup(...) end
  return slurm.SUCCESS
end

-- A fault of the site's goes on to Slurm, which does with it what it does without us.
function slurm_cli_pre_submit(options, offset)
  local status = site_submit and tonumber(site_submit(options, offset)) or slurm.SUCCESS
  return status ~= slurm.SUCCESS and status or ours(options)
end

function slurm_cli_post_submit(...)
  if site_post then return site_post(...) end
  return slurm.SUCCESS
end
