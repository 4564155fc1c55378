#!/bin/bash
#
# coverage.sh [TEST ...] - which lines of the module do tests and fuzzing run?
# A table of files, and lines that nothing has run in build/coverage/missed.
# Fails if it is less than 95 % of the parsers or 85 % of the module.
#
#     FUZZ_SECONDS   for each target of t/fuzz, 10 by default
#     TEST_JOBS      how many tests at a time
#     CLANG          the compiler, clang
#
# Workers that tests kill take what they have run with them.

. "$(dirname "$0")/common.sh"

cd "$root"

dir=$build/coverage
clang=${CLANG:-clang}
seconds=${FUZZ_SECONDS:-10}
export CLANG=$clang

# what decides about octets from outside

parsers="parse_line parse_mail parse_path parse_reply scan sasl text header
    http_reply auth_reply plan"

"$tools/deps.sh" build demo test coverage

mkdir -p "$dir"
run_build COVERAGE="$dir" VERSION="${VERSION:-1.26.3}"
NGX_SRC=${TEST_NGINX_BINARY%/objs/nginx}
export NGX_SRC

export LLVM_PROFILE_FILE=$dir/run-%4m.profraw

find_smtp_sink
export SMTP_SINK=$smtp_sink

rm -rf "$dir"/*.profraw "$dir/unit" "$dir/fuzz" "$dir/lcov"
mkdir -p "$dir/unit" "$dir/fuzz" "$dir/lcov"

[ $# -gt 0 ] || set -- t/*.t
failed=0
tests=()

for test; do
    case $test in
        t/unit.t | t/fuzz.t) ;;
        *) tests+=("$test") ;;
    esac
done

# it is about lines here: tests of their own say whether all is well

say "tests: ${#tests[@]} files"
prove -j "${TEST_JOBS:-$((jobs * 2))}" -I t/lib "${tests[@]}" </dev/null \
    || warn "some tests failed"

flags="-fcoverage-mapping -fprofile-list=$dir/list"

say "unit tests"
UNIT_BUILD=$dir/unit \
CC="$clang -fprofile-instr-generate=$dir/unit-%4m.profraw $flags" \
    prove t/unit.t </dev/null || warn "some unit tests failed"

if [ "$seconds" -gt 0 ]; then
    say "fuzzing, $seconds seconds each"
    FUZZ_BUILD=$dir/fuzz \
    CLANG="$clang -fprofile-instr-generate=$dir/fuzz-%4m.profraw $flags" \
        t/fuzz/run.sh "$seconds" || warn "fuzzing has found something"
fi

llvm-profdata merge -sparse "$dir"/*.profraw -o "$dir/profdata"

# Each program is read on its own: the parsers are in many of them, compiled
# with different options.

n=0

while read -r program; do
    n=$((n + 1))
    llvm-cov export -format=lcov -instr-profile="$dir/profdata" "$program" \
        "$root/$name" >"$dir/lcov/$n" 2>/dev/null || rm -f "$dir/lcov/$n"
done < <(echo "$TEST_NGINX_BINARY"
    find "$dir/unit" "$dir/fuzz" -maxdepth 1 -type f -perm -u+x)

perl - "$dir/missed" "$parsers" "$dir"/lcov/* <<'END' || failed=1
use strict;
use warnings;

my ($missed, $parsers, @lcov) = @ARGV;
my %parser = map { ("ngx_smtp_relay_$_.c" => 1) } split ' ', $parsers;
my (%lines, %path);

for my $lcov (@lcov) {
    open my $in, '<', $lcov or die "$lcov: $!\n";
    my $file;

    while (<$in>) {
        if (m!^SF:(.*/([^/\n]+))!) {
            ($file, $path{$2}) = ($2, $1);
        } elsif (/^DA:(\d+),(\d+)/) {
            $lines{$file}{$1} += $2;
        }
    }
}

open my $out, '>', $missed or die "$missed: $!\n";
my %sum;

for my $file (sort keys %lines) {
    my $of = $lines{$file};
    my @not = sort { $a <=> $b } grep { !$of->{$_} } keys %$of;
    my $all = keys %$of;

    for (['module', 1], ['parsers', $parser{$file}]) {
        next unless $_->[1];
        $sum{$_->[0]}[0] += $all - @not;
        $sum{$_->[0]}[1] += $all;
    }

    show($file . ($parser{$file} ? ' (parser)' : ''), $all - @not, $all);

    open my $source, '<', $path{$file} or die "$path{$file}: $!\n";
    my @source = <$source>;
    print $out "$file:$_:$source[$_ - 1]" for @not;
}

my %least = (parsers => 95, module => 85);
my $low = 0;

print "\n";

for (sort keys %least) {
    my ($run, $all) = @{ $sum{$_} || [0, 1] };
    show("all of the $_", $run, $all);

    if (100 * $run < $least{$_} * $all) {
        print "error: less than $least{$_} % of the $_\n";
        $low = 1;
    }
}

exit $low;

sub show {
    my ($what, $run, $all) = @_;
    printf "%-50s %6d of %6d lines %6.1f %%\n", $what, $run, $all,
           100 * $run / ($all || 1);
}
END

say "what nothing has run: ${dir#"$root"/}/missed"
exit $failed
