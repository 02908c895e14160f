/* The C client: create, read, watch, multi, ephemerals, sequences, ACLs, and the same session over a restart of the server. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zookeeper/zookeeper.h>

#define CHECK(what, got, want)                                                                       \
    do {                                                                                             \
        int got_ = (got), want_ = (want);                                                            \
        if (got_ != want_) {                                                                         \
            fprintf(stderr, "%s:%d: %s: %d, not %d\n", __FILE__, __LINE__, what, got_, want_);       \
            exit(1);                                                                                 \
        }                                                                                            \
    } while (0)

enum { TIMEOUT_MS = 20000, WAIT_S = 60, EVENTS_MAX = 64 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int connected;
static struct {
    int type;
    char path[100];
} events[EVENTS_MAX];
static int event_count;

static void watcher(zhandle_t *handle, int type, int state, const char *path, void *context) {
    (void)handle, (void)context;
    pthread_mutex_lock(&lock);
    if (type == ZOO_SESSION_EVENT) {
        connected = state == ZOO_CONNECTED_STATE;
        if (state == ZOO_EXPIRED_SESSION_STATE) {
            fprintf(stderr, "the session has expired\n");
            exit(1);
        }
    } else if (event_count < EVENTS_MAX) {
        events[event_count].type = type;
        snprintf(events[event_count].path, sizeof events[event_count].path, "%s", path);
        event_count++;
    }
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static struct timespec deadline(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_sec += WAIT_S;
    return t;
}

static void wait_connected(int want) {
    struct timespec until = deadline();
    pthread_mutex_lock(&lock);
    while (connected != want)
        CHECK("waiting for the connection", pthread_cond_timedwait(&changed, &lock, &until), 0);
    pthread_mutex_unlock(&lock);
}

/* The next event is this one. */
static void expect_event(int type, const char *path) {
    static int next;
    struct timespec until = deadline();
    pthread_mutex_lock(&lock);
    while (event_count == next)
        CHECK(path, pthread_cond_timedwait(&changed, &lock, &until), 0);
    CHECK(path, events[next].type, type);
    CHECK(events[next].path, strcmp(events[next].path, path), 0);
    next++;
    pthread_mutex_unlock(&lock);
}

static zhandle_t *connect_to(const char *hosts, const clientid_t *id, watcher_fn callback) {
    zhandle_t *z = zookeeper_init(hosts, callback, TIMEOUT_MS, id, NULL, 0);
    if (!z) {
        perror("zookeeper_init");
        exit(1);
    }
    return z;
}

static int exists(zhandle_t *z, const char *path) { return zoo_exists(z, path, 0, NULL); }

static void data_and_versions(zhandle_t *z) {
    struct Stat stat;
    char buffer[100], path[100];
    int len = sizeof buffer;
    CHECK("create", zoo_create(z, "/c", "one", 3, &ZOO_OPEN_ACL_UNSAFE, 0, path, sizeof path), ZOK);
    CHECK("path", strcmp(path, "/c"), 0);
    CHECK("create again", zoo_create(z, "/c", "one", 3, &ZOO_OPEN_ACL_UNSAFE, 0, path, sizeof path), ZNODEEXISTS);
    CHECK("create below nothing", zoo_create(z, "/no/c", "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0), ZNONODE);
    CHECK("null data", zoo_create(z, "/c/null", NULL, -1, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0), ZOK);
    CHECK("get null", zoo_get(z, "/c/null", 0, buffer, &len, &stat), ZOK);
    CHECK("its length", len, -1);
    len = sizeof buffer;
    CHECK("get", zoo_get(z, "/c", 0, buffer, &len, &stat), ZOK);
    CHECK("length", len, 3);
    CHECK("data", memcmp(buffer, "one", 3), 0);
    CHECK("children", stat.numChildren, 1);
    CHECK("set", zoo_set2(z, "/c", "two!", 4, stat.version, &stat), ZOK);
    CHECK("version", stat.version, 1);
    CHECK("set old", zoo_set(z, "/c", "x", 1, 0), ZBADVERSION);
    CHECK("delete with child", zoo_delete(z, "/c", -1), ZNOTEMPTY);
    struct String_vector children;
    CHECK("children", zoo_get_children2(z, "/c", 0, &children, &stat), ZOK);
    CHECK("count", children.count, 1);
    CHECK("name", strcmp(children.data[0], "null"), 0);
    deallocate_String_vector(&children);
    CHECK("sequence", zoo_create(z, "/c/s-", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT_SEQUENTIAL, path, sizeof path), ZOK);
    CHECK("first number", strcmp(path, "/c/s-0000000001"), 0);
    CHECK("ephemeral", zoo_create(z, "/c/e", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_EPHEMERAL, NULL, 0), ZOK);
    CHECK("below it", zoo_create(z, "/c/e/x", "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0), ZNOCHILDRENFOREPHEMERALS);
    CHECK("stat", zoo_exists(z, "/c/e", 0, &stat), ZOK);
    CHECK("owner", stat.ephemeralOwner == zoo_client_id(z)->client_id, 1);
}

static void watches(zhandle_t *z) {
    struct String_vector children;
    char buffer[10];
    int len = sizeof buffer;
    CHECK("watch nothing", zoo_exists(z, "/w", 1, NULL), ZNONODE);
    CHECK("create", zoo_create(z, "/w", "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0), ZOK);
    expect_event(ZOO_CREATED_EVENT, "/w");
    CHECK("watch data", zoo_get(z, "/w", 1, buffer, &len, NULL), ZOK);
    CHECK("set", zoo_set(z, "/w", "1", 1, -1), ZOK);
    expect_event(ZOO_CHANGED_EVENT, "/w");
    CHECK("set unwatched", zoo_set(z, "/w", "2", 1, -1), ZOK);
    CHECK("watch children", zoo_get_children(z, "/w", 1, &children), ZOK);
    deallocate_String_vector(&children);
    CHECK("child", zoo_create(z, "/w/x", "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0), ZOK);
    expect_event(ZOO_CHILD_EVENT, "/w");
    CHECK("watch child", zoo_exists(z, "/w/x", 1, NULL), ZOK);
    CHECK("delete", zoo_delete(z, "/w/x", 0), ZOK);
    expect_event(ZOO_DELETED_EVENT, "/w/x");
}

static void multi(zhandle_t *z) {
    zoo_op_t ops[4];
    zoo_op_result_t results[4];
    char path[100];
    struct Stat stat;
    zoo_create_op_init(&ops[0], "/m", "m", 1, &ZOO_OPEN_ACL_UNSAFE, 0, path, sizeof path);
    zoo_set_op_init(&ops[1], "/m", "mm", 2, 0, &stat);
    zoo_check_op_init(&ops[2], "/m", 1);
    zoo_delete_op_init(&ops[3], "/c/null", -1);
    CHECK("multi", zoo_multi(z, 4, ops, results), ZOK);
    CHECK("created", exists(z, "/m"), ZOK);
    CHECK("stat of the part", stat.version, 1);
    CHECK("deleted", exists(z, "/c/null"), ZNONODE);
    zoo_create_op_init(&ops[0], "/m/x", "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0);
    zoo_check_op_init(&ops[1], "/m", 7);
    zoo_delete_op_init(&ops[2], "/m", -1);
    CHECK("failing multi", zoo_multi(z, 3, ops, results), ZBADVERSION);
    CHECK("before it", results[0].err, ZOK);
    CHECK("itself", results[1].err, ZBADVERSION);
    CHECK("after it", results[2].err, ZRUNTIMEINCONSISTENCY);
    CHECK("no trace", exists(z, "/m/x"), ZNONODE);
}

static volatile int auth_result;

static void authenticated(int rc, const void *data) {
    (void)data;
    pthread_mutex_lock(&lock);
    auth_result = rc;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void acls(zhandle_t *z, zhandle_t *other) {
    struct timespec until = deadline();
    char buffer[10];
    int len = sizeof buffer;
    auth_result = 1;
    CHECK("auth", zoo_add_auth(z, "digest", "u:p", 3, authenticated, NULL), ZOK);
    pthread_mutex_lock(&lock);
    while (auth_result == 1)
        CHECK("waiting for auth", pthread_cond_timedwait(&changed, &lock, &until), 0);
    pthread_mutex_unlock(&lock);
    CHECK("auth result", auth_result, ZOK);
    CHECK("create", zoo_create(z, "/mine", "s", 1, &ZOO_CREATOR_ALL_ACL, 0, NULL, 0), ZOK);
    CHECK("own", zoo_get(z, "/mine", 0, buffer, &len, NULL), ZOK);
    CHECK("foreign", zoo_get(other, "/mine", 0, buffer, &len, NULL), ZNOAUTH);
    struct ACL_vector acl;
    struct Stat stat;
    CHECK("getAcl", zoo_get_acl(z, "/mine", &acl, &stat), ZOK);
    CHECK("entries", acl.count, 1);
    CHECK("scheme", strcmp(acl.data[0].id.scheme, "digest"), 0);
    CHECK("id", strcmp(acl.data[0].id.id, "u:Jq7wMyA/w2Vd5WIDAKdu4OIIFEQ="), 0);
    deallocate_ACL_vector(&acl);
    CHECK("nobody has done that", zoo_create(other, "/o", "", 0, &ZOO_CREATOR_ALL_ACL, 0, NULL, 0), ZINVALIDACL);
}

static void survives_restart(zhandle_t *z, const char *signal) {
    char command[1000];
    int64_t id = zoo_client_id(z)->client_id;
    snprintf(command, sizeof command, "\"%s\" %s", getenv("ZOO_RESTART"), signal);
    CHECK("watch", zoo_exists(z, "/c/e", 1, NULL), ZOK);
    CHECK(command, system(command), 0);
    wait_connected(1);
    int rc;
    do
        rc = zoo_set(z, "/c", "after", 5, -1);
    while (rc == ZCONNECTIONLOSS || rc == ZOPERATIONTIMEOUT);
    CHECK("set after the restart", rc, ZOK);
    CHECK("same session", zoo_client_id(z)->client_id == id, 1);
    CHECK("its ephemeral", exists(z, "/c/e"), ZOK);
    /* The watch was set again for the new connection. */
    CHECK("delete", zoo_delete(z, "/c/e", -1), ZOK);
    expect_event(ZOO_DELETED_EVENT, "/c/e");
    CHECK("ephemeral again", zoo_create(z, "/c/e", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_EPHEMERAL, NULL, 0), ZOK);
}

int main(void) {
    const char *hosts = getenv("ZOO_ADDR");
    zoo_set_debug_level(0);
    zhandle_t *z = connect_to(hosts, NULL, watcher);
    wait_connected(1);
    zhandle_t *other = connect_to(hosts, NULL, NULL);
    while (zoo_state(other) != ZOO_CONNECTED_STATE)
        usleep(10000);
    data_and_versions(z);
    watches(z);
    multi(z);
    acls(z, other);
    zookeeper_close(other);
    survives_restart(z, "TERM");
    survives_restart(z, "KILL");
    zookeeper_close(z);
    /* What it owned is gone at once. */
    z = connect_to(hosts, NULL, NULL);
    while (zoo_state(z) != ZOO_CONNECTED_STATE)
        usleep(10000);
    CHECK("ephemeral of a closed session", exists(z, "/c/e"), ZNONODE);
    CHECK("persistent", exists(z, "/c"), ZOK);
    zookeeper_close(z);
    puts("C client: all well");
    return 0;
}
