-- Decisions made before. Users submit the same words again and again, and slurmctld's caches are cold at each job: a
-- decision takes it 200 us then, and 60 to find it here.
--
-- What a decision looks at in a request depends on nothing but what it has seen there so far. So a policy's decisions
-- form a tree: a node names the field that is looked at next, and leads on by the value found there. Fields hold texts,
-- numbers, booleans, or tables that are the same table when they say the same (M.same).

local M = {}

local MAX_DECISIONS = 500  -- then the tree begins anew
local MAX_TABLES = 500
local NOTHING = {}  -- stands for nil as a key

-- The table that `make` returns for a text: the same one for the same text.
function M.same(make)
  local made, count = {}, 0
  return function(words)
    local found = made[words]
    if found then return found end
    if count >= MAX_TABLES then made, count = {}, 0 end
    made[words], count = make(words), count + 1
    return made[words]
  end
end

-- A request that notes which of its fields are looked at, each once.
local function watch(request, names, values)
  local seen = {}
  return setmetatable({}, { __index = function(_, name)
    local value = request[name]
    if not seen[name] then
      seen[name] = true
      names[#names + 1] = name
      values[#values + 1] = value == nil and NOTHING or value
    end
    return value
  end })
end

local function keep(root, names, values, decision)
  local node = root
  for index, name in ipairs(names) do
    node.name, node.next = name, node.next or {}
    local value = values[index]
    node.next[value] = node.next[value] or {}
    node = node.next[value]
  end
  node.decision = decision
end

local function find(root, request)
  local node = root
  while node and node.name do
    local value = request[node.name]
    if value == nil then value = NOTHING end
    node = node.next[value]
  end
  return node and node.decision
end

-- A function (policy, request) that decides as `decide` does, and remembers. A decision with `once` is made anew each
-- time: it rests on more than the request.
function M.remembering(decide)
  local trees = setmetatable({}, { __mode = "k" })
  return function(policy, request)
    local tree = trees[policy]
    if not tree or tree.count >= MAX_DECISIONS then
      tree = { root = {}, count = 0 }
      trees[policy] = tree
    end
    local known = find(tree.root, request)
    if known then return known end
    local names, values = {}, {}
    local decision = decide(policy, watch(request, names, values))
    if not decision.once then
      keep(tree.root, names, values, decision)
      tree.count = tree.count + 1
    end
    return decision
  end
end

return M
