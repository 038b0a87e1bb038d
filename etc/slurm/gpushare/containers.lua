-- Images, mounts and datasets at submission: by name and lexical path. The node compares real paths once more.

local part = ...
local text = part("text")
local refuse, show, split = text.refuse, text.show, text.split

local M = {}

-- The components of an absolute path or of a source such as docker://host/name (whose first component is `docker://`),
-- nil for any other text.
local function components(path)
  local scheme, rest = path:match("^(%l[%l%d+.-]*://)(.+)$")
  if path:find("%c") or not scheme and path:sub(1, 1) ~= "/" then return nil end
  local parts = { scheme }
  for name in (rest or path):gmatch("[^/]+") do
    if name == ".." then return nil end
    if name ~= "." then parts[#parts + 1] = name end
  end
  return parts
end

-- One component against one of the policy, in which * stands for any text and ? for one character.
local function fits(name, pattern)
  if not pattern:find("[*?]") then return name == pattern end
  local lua = pattern:gsub("[^%w]", function(char)
    return char == "*" and ".*" or char == "?" and "." or "%" .. char
  end)
  return name:find("^" .. lua .. "$") ~= nil
end

local function is_under(path, prefixes)
  local parts = components(path)
  for _, prefix in ipairs(parts and prefixes or {}) do
    local inside = true
    for index, pattern in ipairs(components(prefix) or { "" }) do
      inside = inside and parts[index] ~= nil and fits(parts[index], pattern)
    end
    if inside then return true end
  end
  return false
end

local function alternatives(prefixes, none)
  return #prefixes > 0 and table.concat(prefixes, " or ") or none
end

-- Whether a text is a place in a container.
local function is_place(path)
  local parts = path:sub(1, 1) == "/" and components(path)
  return parts and #parts > 0
end

local function check_mount(mount, allowed, rule)
  local parts = split(mount, ":")
  if #parts < 2 or #parts > 3 or (parts[3] and parts[3] ~= "ro") or not is_place(parts[2]) then
    refuse("containers", "--container-mounts=%s: write SRC:DST or SRC:DST:ro, absolute paths without ..", show(mount))
  elseif parts[1]:sub(1, 1) ~= "/" or not is_under(parts[1], allowed) then
    refuse(rule, "--container-mounts=%s: what is mounted must lie below %s", show(mount),
      alternatives(allowed, "no folder: none is allowed here"))
  end
end

-- The names of the datasets that the user may use by this rule.
function M.open_datasets(policy, rule, user)
  local allowed, names = rule.get("datasets"), {}
  for _, name in ipairs(text.sorted_keys(policy.datasets)) do
    local members = policy.datasets[name]
    if (not allowed or allowed[name]) and (members == true or user and members[user]) then names[#names + 1] = name end
  end
  return names
end

-- NAME or NAME:DST
local function check_dataset(policy, rule, item, user)
  local name, target = item:match("^([^:]*):?(.*)$")
  local dataset, allowed = policy.datasets[name], rule.get("datasets")
  if not (dataset and (not allowed or allowed[name]) and (dataset == true or user and dataset[user])) then
    local known = M.open_datasets(policy, rule, user)
    refuse(dataset and rule.name or "containers", "--dataset=%s: %s: %s", show(name),
      dataset and "is not open to you" or "no such dataset here",
      #known > 0 and "known are " .. table.concat(known, ", ") or "the policy has none for you")
  elseif item ~= name and not is_place(target) then
    refuse("containers", "--dataset=%s: write NAME, or NAME:DST with an absolute path without ..", show(item))
  end
end

-- Variables that the runtimes set in a container, whatever they are told.
local FIXED = { HOME = true, PWD = true, UID = true, EUID = true, GID = true, IFS = true, OPTIND = true }

local function check_variable(name)
  if not name:find("^[%a_][%w_]*$") then
    refuse("containers", "--container-env=%s: write names of variables, with commas between them", show(name))
  elseif FIXED[name] or name:find("^APPTAINER") or name:find("^SINGULARITY") then
    refuse("containers", "--container-env=%s: is the runtime's own in a container: leave it out", show(name))
  end
end

-- What an option that may stand alone can be; the first two are Slurm's for one without its value.
local FLAGS = { [""] = true, ["(null)"] = true, yes = true, no = true }

local function check_flag(name, value)
  if value and not FLAGS[value] then refuse("containers", "--%s=%s: write yes or no", name, show(value)) end
end

-- Refuse what the job's container options ask for beyond the policy.
function M.check(policy, rule, request)
  local options = request.options
  local image, mounts, datasets, scope =
    options.container_image, options.container_mounts, options.dataset, options.container_scope
  if not image and (mounts or datasets) then
    refuse("containers", "%s needs --container-image=PATH beside it",
      mounts and "--container-mounts=" .. show(mounts) or "--dataset=" .. show(datasets))
  elseif image and not is_under(image, rule.get("images")) then
    refuse(rule.name, "--container-image=%s: images are absolute paths without .., below %s", show(image),
      alternatives(rule.get("images"), "no folder: none is allowed here"))
  end
  if image and request.container then
    refuse("containers", "--container-image=%s and --container=%s: a job runs in one container: write one of them",
      show(image), show(request.container))
  end
  if mounts then
    for _, mount in ipairs(split(mounts, ",")) do check_mount(mount, rule.get("mounts"), rule.name) end
  end
  if datasets then
    for _, name in ipairs(split(datasets, ",")) do check_dataset(policy, rule, name, request.user) end
  end
  if scope and scope ~= "job" and scope ~= "tasks" then
    refuse("containers", "--container-scope=%s: write job or tasks", show(scope))
  end
  local folder = options.container_workdir
  if folder and (folder:sub(1, 1) ~= "/" or not components(folder)) then
    refuse("containers", "--container-workdir=%s: write an absolute path without ..", show(folder))
  end
  for _, name in ipairs(options.container_env and split(options.container_env, ",") or {}) do check_variable(name) end
  check_flag("container-mount-home", options.container_mount_home)
  check_flag("container-writable", options.container_writable)
  if options.container_writable and options.container_writable ~= "no" and rule.get("writable") == false then
    refuse(rule.name, "--container-writable: is not allowed here: leave it out")
  end
end

-- Where a path leads on the submitting host, in a line, if that lies outside; nil where all is well or nothing known.
local function outside(policy, real, prefixes, option, written)
  if not real or is_under(real, prefixes) then return nil end
  -- The site's own folders may be links. What they lead to is what the controller sees.
  for _, prefix in ipairs(prefixes) do
    if is_under(real, { policy.real and policy.real[prefix] }) then return nil end
  end
  return string.format("--%s=%s leads to %s on this host, which is not below %s: where it does so on the nodes, too, the "
    .. "job will fail", option, show(written), show(real), table.concat(prefixes, " or "))
end

-- Lines for the user of a job that was let in: what the nodes will refuse if paths lead there as they do where it was
-- submitted. request.real has these, as the plugin found them: { image = path, [number of the mount] = path }.
function M.advice(policy, rule, request)
  local real, options, lines = request.real or {}, request.options, {}
  lines[1] = outside(policy, real.image, rule.get("images"), "container-image", options.container_image)
  for number, mount in ipairs(options.container_mounts and split(options.container_mounts, ",") or {}) do
    lines[#lines + 1] = outside(policy, real[number], rule.get("mounts"), "container-mounts", mount)
  end
  return lines
end

-- Refuse a job with a GPU and without a container where one is required.
function M.check_required(rule, request, what)
  if rule.get("container_required") and not request.options.container_image then
    refuse(rule.name, "%s: GPUs are given to containers alone here: write --container-image=PATH beside it, below %s",
      show(what), alternatives(rule.get("images"), "no folder"))
  end
end

-- Refuse a share in a container of Slurm's own, whose runtime (oci.conf) starts the command without our launcher.
function M.check_own(request, what)
  if request.container then
    refuse("containers", "%s: no share of a GPU is given into Slurm's own --container=%s: write --container-image=PATH",
      show(what), show(request.container))
  end
end

return M
