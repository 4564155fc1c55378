# A thin face of the scripts in t/tools: they say what they do, and what in
# the environment changes it.

.PHONY: help deps build demo test sanitize valgrind chaos faults fuzz coverage \
	bench check clean dist

NAME = ngx_smtp_relay_module

help: ## this list
	@echo 'make TARGET [NAME=value ...]'
	@echo
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1|\2/p' Makefile \
	    | while IFS='|' read -r t w; do printf '%-10s %s\n' "$$t" "$$w"; done
	@echo
	@echo '  NGINX_SRC=dir     nginx sources to build with, not Debian'\''s nginx'
	@echo '  VERSION=1.26.3    the same, downloaded (1.22.1, 1.26.3)'
	@echo '  STATIC=1          with these: the module built into nginx'
	@echo '  TESTS="t/ehlo.t"  the tests to run'
	@echo '  JOBS=2            how much at a time'

deps: ## gets what build, demo and test need and is missing, by apt
	@t/tools/deps.sh build demo test

build: ## build/ngx_smtp_relay_module.so
	@t/tools/deps.sh build
	@t/tools/build.sh

demo: ## real messages through a real relay; KEEP=1 leaves it running
	@t/tools/demo.sh

test: ## builds and runs all tests
	@t/tools/test.sh $(TESTS)

sanitize: ## the same with ASan and UBSan, nginx built from source
	@SANITIZE=1 t/tools/test.sh $(TESTS)

valgrind: ## the same under valgrind
	@VALGRIND=1 t/tools/test.sh $(TESTS)

chaos: ## everything goes wrong at once; CHAOS=300 (seconds)
	@TEST_CHAOS=$(or $(CHAOS),300) TEST_CHAOS_SESSIONS=500 \
	    STATIC=1 VERSION=$(or $(VERSION),1.26.3) t/tools/test.sh t/chaos.t

faults: ## failing allocations, one octet at a time, other event methods
	@t/tools/faults.sh

fuzz: ## fuzzes the parsers for long; SECONDS_EACH=300
	@t/tools/fuzz.sh $(or $(SECONDS_EACH),300)

coverage: ## which lines do tests and fuzzing run? FUZZ_SECONDS=10
	@t/tools/coverage.sh $(TESTS)

bench: ## measures; OPTIONS="--rounds 1", see t/bench/README.md
	@t/tools/bench.sh $(OPTIONS)

check: ## style rules, cppcheck, clang-tidy, gcc -fanalyzer
	@t/tools/style.sh

clean: ## removes what has been built, not what has been downloaded
	rm -rf build/nginx-* build/bench build/fuzz build/log.* build/load.* build/result.* build/*.so build/prove.state

dist: ## build/ngx_smtp_relay_module-VERSION.tar.gz of the last commit
	@mkdir -p build
	@version=$$(sed -n 's/^Changes with $(NAME) \([0-9.]*\).*/\1/p' \
	        CHANGES | head -n 1); \
	    dist=$(NAME)-$$version; \
	    git archive --prefix="$$dist/" -o "build/$$dist.tar.gz" HEAD \
	        && (cd build && sha256sum "$$dist.tar.gz")
