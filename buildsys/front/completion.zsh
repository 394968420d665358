#compdef doit buildsys dev
# Completion of doit, buildsys and ./dev for zsh: eval "$(buildsys completion zsh)", after compinit.
_buildsys() {
    local program=${commands[buildsys]:-.venv/bin/buildsys} word about
    local -a found shown
    local -i files=0
    [[ -x $program ]] || return 1
    while IFS=$'\t' read -r word about; do
        if [[ $word == : ]]; then
            files=1
        else
            found+=("$word")
            shown+=("$word${about:+  -- $about}")
        fi
    done < <($program complete "${(j: :)words[1,CURRENT-1]} ${PREFIX}" 2>/dev/null)
    (( ${#found} )) && compadd -l -d shown -a found
    (( files )) && _files
    return 0
}
if [[ ${funcstack[1]} == _buildsys ]]; then
    _buildsys "$@"
else
    compdef _buildsys doit buildsys dev
fi
