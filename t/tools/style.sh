#!/bin/bash
#
# style.sh - the rules of style that a script can see, and what cppcheck and
# the analyzers of clang and gcc find.  QUICK=1: the rules alone.

. "$(dirname "$0")/common.sh"

cd "$root"
bad=0

# finding TEXT LINES
finding() {
    [ -n "$2" ] || return 0
    printf '%s:\n%s\n' "$1" "$2"
    bad=1
}

mapfile -t sources < <(ls "$name"/*.[ch])
mapfile -t c < <(ls "$name"/*.[ch] t/*/*.[ch] 2>/dev/null)
mapfile -t scripts < <(ls t/tools/*.sh t/fuzz/*.sh t/bench/*.sh .ci/run \
                       2>/dev/null)
mapfile -t text < <(ls "${c[@]}" "${scripts[@]}" config Makefile t/*.t \
                    t/lib/*/*.pm docs/*.md README.md CHANGES 2>/dev/null)

say "rules"

finding "longer than 80 columns" \
    "$(awk 'length > 80 { print FILENAME ":" FNR }' "${c[@]}")"
finding "tab" "$(grep -nP '\t' "${c[@]}" || :)"
finding "white space at the end of a line" \
    "$(grep -nP '[ \t]+$' "${text[@]}" || :)"
finding "no space behind a keyword" \
    "$(grep -nP '^\s*(\} else )?(if|for|while|switch)\(' "${c[@]}" || :)"
finding "// comment" "$(grep -nP '(^|[^:"])//(?!.*")' "${sources[@]}" || :)"
finding "memory, string or number function of libc, not of nginx" \
    "$(grep -nP '(?<![\w>.])(malloc|calloc|free|memcpy|memset|strlen|strcmp|sprintf|atoi)\(' \
       "${sources[@]}" | grep -vP '^[^:]+:\d+: \* ' || :)"
finding "more than 1000 lines" \
    "$(wc -l "${sources[@]}" | awk '$2 != "total" && $1 > 1000')"
finding "function of more than 150 lines" \
    "$(awk '/^{/ { start = FNR }
            /^}/ && start { if (FNR - start > 150) print FILENAME ":" start
                            start = 0 }' "${sources[@]}")"

for f in "${scripts[@]}"; do
    finding "shell syntax" "$(bash -n "$f" 2>&1 || :)"
done

# a directive or a variable that nobody is told about, or that has no test
docs= tests=
names=$(grep -hoE 'ngx_string\("smtp_relay_[a-z0-9_]+"\)' "${sources[@]}" \
        | sed -E 's/.*"(.*)".*/\1/')
# those of a family, each of which has several prefixes
members=$(grep -hoE 'ngx_string\(prefix "[a-z0-9_]+"\)' "${sources[@]}" \
          | sed -E 's/.*"(.*)".*/\1/')
for p in $(grep -hoE '_COMMANDS\("smtp_relay_[a-z0-9_]+"' "${sources[@]}" \
           | sed -E 's/.*"(.*)".*/\1/')
do
    for d in $members; do
        names+=$'\n'$p$d
    done
done
for d in $(sort -u <<< "$names")
do
    word="\\b$d"
    [ "${d%_}" != "$d" ] || word="$word\\b"
    grep -rqE "$word" docs || docs+=$d$'\n'
    grep -qE "$word" t/*.t || tests+=$d$'\n'
done

finding "not in docs/" "$docs"
finding "not in t/*.t" "$tests"

if [ -z "${QUICK:-}" ]; then
    "$tools/deps.sh" build check

    # with the module, else all that is for http{} would not be seen

    run_build TREE=module VERSION="${VERSION:-1.26.3}"
    tree=$NGX_SRC

    inc=(-I"$tree/objs" -I"$root/$name")
    for d in core event event/modules event/quic os/unix stream; do
        inc+=(-I"$tree/src/$d")
    done

    # cppcheck does without: it tries each way through all their #if
    http=(-I"$tree/src/http" -I"$tree/src/http/modules")

    say "cppcheck"
    # with a -D it looks at the one configuration that there is
    cppcheck -q -j "$jobs" -D__linux__=1 --enable=warning,portability \
        --inline-suppr \
        --error-exitcode=1 --suppress=missingIncludeSystem \
        --suppress="*:$tree/*" --suppress=checkersReport \
        "${inc[@]}" "$name" || bad=1

    say "clang-tidy"
    checks='-*,clang-analyzer-*,bugprone-*'
    for check in easily-swappable-parameters assignment-in-if-condition \
             narrowing-conversions \
             implicit-widening-of-multiplication-result \
             reserved-identifier macro-parentheses branch-clone \
             suspicious-include sizeof-expression; do
        checks+=,-bugprone-$check
    done
    checks+=,-clang-analyzer-security.insecureAPI.DeprecatedOrUnsafeBufferHandling

    ls "$name"/*.c | xargs -P "$jobs" -I{} clang-tidy --quiet \
        --warnings-as-errors='*' --checks="$checks" {} -- "${inc[@]}" \
        "${http[@]}" 2>/dev/null || bad=1

    say "gcc -fanalyzer"
    ls "$name"/*.c | xargs -P "$jobs" -I{} gcc -fanalyzer -Werror -O2 \
        "${inc[@]}" "${http[@]}" -c -o /dev/null {} || bad=1
fi

[ $bad -eq 0 ] && say "nothing found"
exit $bad
