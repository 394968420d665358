# Completion of doit, buildsys and ./dev for bash: eval "$(buildsys completion bash)"
_buildsys() {
    local program line whole prefix word
    program=$(command -v buildsys) || program=.venv/bin/buildsys
    [ -x "$program" ] || return
    line=${COMP_LINE:0:COMP_POINT}
    # Readline replaces what follows the last : or =, which are ends of words to it but not to doit.
    whole=${line##*[[:space:]]}
    prefix=
    [[ $whole != *[:=]* ]] || prefix=${whole%"${whole##*[:=]}"}
    COMPREPLY=()
    while IFS=$'\t' read -r word _; do
        if [ "$word" = : ]; then
            compopt -o default
        else
            COMPREPLY+=("${word#"$prefix"}")
        fi
    done < <("$program" complete "$line" 2>/dev/null)
}
complete -F _buildsys doit buildsys dev
