# Completion of doit, buildsys and ./dev for fish: buildsys completion fish | source
function __buildsys_complete
    set -l program (command -s buildsys; or echo .venv/bin/buildsys)[1]
    test -x "$program"; or return
    for line in ($program complete (commandline -cp) 2>/dev/null)
        if test "$line" = :
            __fish_complete_path (commandline -ct)
        else
            echo $line
        end
    end
end
for program in doit buildsys dev
    complete -c $program -f -a '(__buildsys_complete)'
end
