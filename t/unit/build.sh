# What unit tests, fuzz targets and benchmarks are compiled of, for scripts to
# read in.  $dir is the directory t.

unit_module=$(cd "$dir/.." && pwd)/ngx_smtp_relay_module

unit_scan=$unit_module/ngx_smtp_relay_scan.c

unit_cache="
    $unit_module/ngx_smtp_relay_auth_cache_table.c
    $unit_module/ngx_smtp_relay_auth_cache_zone.c"

unit_parsers="
    $unit_module/ngx_smtp_relay_parse_line.c
    $unit_module/ngx_smtp_relay_parse_mail.c
    $unit_module/ngx_smtp_relay_parse_path.c
    $unit_module/ngx_smtp_relay_parse_reply.c
    $unit_module/ngx_smtp_relay_text.c
    $unit_module/ngx_smtp_relay_sasl.c
    $unit_module/ngx_smtp_relay_header.c
    $unit_module/ngx_smtp_relay_plan.c
    $unit_module/ngx_smtp_relay_limit_bucket.c
    $unit_scan"

# what the zones of limits are made of

unit_zone="
    $unit_module/ngx_smtp_relay_limit_zone.c
    $unit_module/ngx_smtp_relay_limit_conn.c
    $unit_module/ngx_smtp_relay_limit_rate.c"

unit_http=$unit_module/ngx_smtp_relay_http_reply.c

unit_block_zone=$unit_module/ngx_smtp_relay_auth_block_zone.c

# Sets unit_nginx and unit_includes, or fails with unit_reason.

unit_sources() {
    if [ -z "$NGX_SRC" ]; then
        unit_reason="NGX_SRC, a configured nginx source tree, is not set"
        return 1
    fi

    if [ ! -f "$NGX_SRC/objs/ngx_auto_config.h" ]; then
        unit_reason="NGX_SRC, $NGX_SRC, is not configured"
        return 1
    fi

    if [ ! -f "$NGX_SRC/src/core/ngx_string.c" ]; then
        unit_reason="NGX_SRC, $NGX_SRC, has no sources"
        return 1
    fi

    unit_nginx="
        $NGX_SRC/src/core/ngx_string.c
        $NGX_SRC/src/core/ngx_parse.c
        $NGX_SRC/src/core/ngx_md5.c
        $NGX_SRC/src/core/ngx_palloc.c
        $NGX_SRC/src/os/unix/ngx_alloc.c"

    unit_nginx_zone="
        $NGX_SRC/src/core/ngx_slab.c
        $NGX_SRC/src/core/ngx_rbtree.c
        $NGX_SRC/src/core/ngx_crc32.c"

    unit_nginx_http="
        $NGX_SRC/src/http/ngx_http_parse.c
        $NGX_SRC/src/core/ngx_array.c
        $NGX_SRC/src/core/ngx_buf.c"

    unit_includes_http="-DNGX_SMTP_RELAY_HTTP=1
        -I$NGX_SRC/src/http -I$NGX_SRC/src/http/modules
        -I$NGX_SRC/src/http/v2 -I$NGX_SRC/src/http/v3"

    unit_includes="-I$NGX_SRC/src/core -I$NGX_SRC/src/event
        -I$NGX_SRC/src/event/modules -I$NGX_SRC/src/event/quic
        -I$NGX_SRC/src/os/unix -I$NGX_SRC/src/stream -I$NGX_SRC/objs -I$unit_module
        -I$dir/unit"
}
