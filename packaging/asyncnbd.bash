# bash completion for asyncnbd and asyncnbd-client. The command knows what can stand where: it is asked for each word.
# shellcheck shell=bash
_asyncnbd() {
  local rest=${COMP_LINE:0:COMP_POINT} words=() word i
  # Bash has taken "=" and ":" for ends of words, which they are not for us.
  for ((i = 0; i < COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    if ((i == 0)) || [[ $rest == [[:blank:]]* ]]; then words+=("$word"); else words[-1]+=$word; fi
    rest=${rest#*"$word"}
  done
  if [[ $rest == [[:blank:]]* ]]; then
    words+=("${rest#"${rest%%[![:blank:]]*}"}")
  else
    words[-1]+=$rest
  fi
  for i in "${!words[@]}"; do
    word=${words[i]/#\~\//$HOME/}
    # xargs takes quotes off, and runs nothing.
    if [[ $word == *[\\\'\"]* ]]; then word=$(xargs printf %s 2>/dev/null <<<"$word"); fi
    words[i]=$word
  done

  local lines
  mapfile -t lines < <("${words[0]}" --completion=words -- "${words[@]:1}" 2>/dev/null)
  ((${#lines[@]} > 0)) || return
  local current=${words[-1]} kind=${lines[0]%%$'\t'*} head=${lines[0]#*$'\t'} flag=
  local value=${current#"$head"}
  COMPREPLY=("${lines[@]:1}")
  COMPREPLY=("${COMPREPLY[@]%%$'\t'*}")
  case $kind in
    file) flag=-f ;;
    directory) flag=-d ;;
    user) flag=-u ;;
    group) flag=-g ;;
  esac
  if [[ -n $flag ]]; then
    if [[ $flag == -[fd] ]]; then compopt -o filenames; fi
    while IFS= read -r word; do COMPREPLY+=("$head$word"); done < <(compgen $flag -- "$value")
  fi
  if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=/] ]]; then compopt -o nospace; fi
  # Readline replaces only what follows the last of its own ends of words.
  local tail=$current
  for i in = :; do
    if [[ $COMP_WORDBREAKS == *$i* ]]; then tail=${tail##*"$i"}; fi
  done
  current=${current%"$tail"}
  for i in "${!COMPREPLY[@]}"; do COMPREPLY[i]=${COMPREPLY[i]#"$current"}; done
}
complete -F _asyncnbd asyncnbd asyncnbd-client
