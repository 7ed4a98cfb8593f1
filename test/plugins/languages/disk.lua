-- A disk in Lua; it says every call.
local disk = {}
local SECTOR = 512

local function say (word, ...)
   for _, more in ipairs ({...}) do word = word .. " " .. tostring (more) end
   io.stderr:write (word, "\n")
end

function dump_plugin () print ("lua=" .. _VERSION) end

function config (key, value)
   if key ~= "word" then error ("no parameter " .. key) end
   say ("config", key, value)
end

function config_complete () say ("config_complete", os.getenv ("HOME") ~= nil) end

function open (readonly)
   say ("open", readonly)
   return {}
end

function close () say ("close") end
function get_size () return 1048576 end

function pread (_, count, offset)
   if offset == 666 * SECTOR then error ("this sector is cursed") end
   local parts = {}
   for at = offset, offset + count - 1, SECTOR do
      parts[#parts + 1] = disk[at // SECTOR] or string.rep ("\0", SECTOR)
   end
   return table.concat (parts)
end

function pwrite (_, data, offset)
   for at = 0, #data - 1, SECTOR do
      disk[(offset + at) // SECTOR] = data:sub (at + 1, at + SECTOR)
   end
end
