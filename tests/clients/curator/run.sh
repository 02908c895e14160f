#!/usr/bin/env bash
# Curator's recipes: Debian's (5.4 on the 3.8 client) and, when the reference jars are there, 5.9 on the 3.9.4 client.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
command -v javac >/dev/null || { echo "no javac"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
java=/usr/share/java
paths=()
if [ -e $java/curator-recipes.jar ]; then
    # Only what these need: a class path of the whole folder would mix versions.
    paths+=("$(ls $java/{curator-client,curator-framework,curator-recipes,zookeeper,zookeeper-jute,slf4j-api,slf4j-nop,guava,failureaccess,netty-all,netty,metrics-core,snappy-java,jackson-core,jackson-databind,jackson-annotations}.jar 2>/dev/null | paste -sd: || true)")
fi
[ -e "$root/.cache/oracle/jars/.complete" ] && paths+=("$root/.cache/oracle/jars/*")
[ ${#paths[@]} -gt 0 ] || { echo "no Curator (Debian package libcurator-recipes-java)"; exit 77; }
for path in "${paths[@]}"; do
    rm -rf "$work/classes"
    javac -nowarn -Xlint:none -cp "$path" -d "$work/classes" "$here/Recipes.java"
    echo "Curator of ${path%%:*}"
    timeout 300 "$here/../with_server.sh" "$ZOO_SERVER_KIND" -- java -Xmx256m -XX:TieredStopAtLevel=1 -cp "$work/classes:$path" Recipes 2>"$work/err" ||
        { status=$?; grep -v '^SLF4J' "$work/err" | tail -60 >&2; exit $status; }
done
