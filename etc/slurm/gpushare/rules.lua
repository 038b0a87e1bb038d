-- Which rule of the policy holds for a job, and what it allows.
--
-- Rules are numbered in the order of the YAML, and the first that matches wins. policy.index names for each value of a
-- rule's most selective criterion (user, account, QOS, partition) the rules that need it, in order: rules about others
-- are never looked at.

local part = ...
local text = part("text")

local M = {}

local CRITERIA = { "users", "accounts", "qos", "partitions" }
local FIELD = { users = "user", accounts = "account", qos = "qos" }  -- of a request

-- Whether a set of names has the job's. What no rule goes by is never read, since slurmctld would have to look it up.
local function has(names, criterion, request, partition)
  if criterion == "partitions" then return names[partition] end
  return names[request[FIELD[criterion]]]
end

local function matches(rule, request, partition)
  for _, criterion in ipairs(CRITERIA) do
    local names = rule[criterion]
    if names and not has(names, criterion, request, partition) then return false end
  end
  return true
end

-- The first of these rules that matches, or `best` where that one comes earlier.
local function earliest(policy, numbers, request, partition, best)
  for _, number in ipairs(numbers) do
    if number >= best then break end
    if matches(policy.rules[number], request, partition) then return number end
  end
  return best
end

-- The number of the first matching rule for one partition, math.huge where none matches.
local function first_match(policy, request, partition)
  local best = math.huge
  for _, criterion in ipairs(CRITERIA) do
    local index = policy.index[criterion]
    local numbers = next(index) and has(index, criterion, request, partition)
    if numbers then best = earliest(policy, numbers, request, partition, best) end
  end
  return earliest(policy, policy.index.any, request, partition, best)
end

-- What holds for a job: { name, get = function(key) }, where name is how the grant and messages call it. The job's
-- partitions must agree on the rule, or it could be placed where another one holds.
function M.find(policy, request)
  local names = request.partitions
  local found = first_match(policy, request, names[1])
  for index = 2, #names do
    if first_match(policy, request, names[index]) ~= found then
      text.refuse("partitions " .. text.show(table.concat(names, ",")),
        "-p %s: the policy has different rules for these partitions: name one partition",
        text.show(table.concat(names, ",")))
    end
  end
  local rule = policy.rules[found]
  local name = rule and "rule " .. rule.name
  if not rule then
    name = #names > 1 and "partitions " or "partition "
    name = name .. text.show(#names > 0 and table.concat(names, ",") or "unknown")
  end
  return {
    name = name,
    get = function(key)
      if rule and rule[key] ~= nil then return rule[key] end
      return policy.limits[key]
    end,
  }
end

return M
