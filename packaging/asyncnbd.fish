# fish completion for asyncnbd and asyncnbd-client. The command knows what can stand where: it is asked for each word.
function __asyncnbd_complete
    set -l before (commandline -opc)
    set -l command (string replace -r '^~/' $HOME/ -- $before[1])
    set -e before[1]
    set -l current (string unescape -- (commandline -ct); or commandline -ct)
    set -l lines ($command --completion=words -- $before "$current" 2>/dev/null)
    set -l first (string split \t -- $lines[1])
    set -e lines[1]
    string join \n -- $lines
    set -l head $first[2]
    set -l value (string sub -s (math (string length -- "$head") + 1) -- "$current")
    set -l found
    switch "$first[1]"
        case file
            set found (__fish_complete_path "$value")
        case directory
            set found (__fish_complete_directories "$value")
        case user
            set found (__fish_complete_users)
        case group
            set found (__fish_complete_groups)
    end
    for one in $found
        printf '%s%s\n' "$head" $one
    end
end

complete -c asyncnbd -f -a '(__asyncnbd_complete)'
complete -c asyncnbd-client -f -a '(__asyncnbd_complete)'
