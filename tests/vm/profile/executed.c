/* What the guest executed, by address: a plugin of QEMU's (`-plugin executed.so,dir=DIR`).
 *
 * Owns one counter for each translated block: how often it ran. Whoever wants the counts makes the file DIR/snap-NAME; the
 * plugin writes DIR/prof-NAME, a line for each block that ever ran: its address, how many instructions it has, how often it
 * ran since the guest began, and removes the request. Who those addresses belong to is for by_function.py.
 *
 * The guest has one processor here (-icount), so counters need no lock among processors. Declared by hand, after QEMU's
 * documentation of version 1 of the interface, because Debian ships QEMU without the header.
 */
#include <pthread.h>
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };
typedef struct qemu_info_t qemu_info_t;
extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, enum qemu_plugin_op, void *, uint64_t);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);

int qemu_plugin_version = 1;

/* A block that was translated again keeps its counter: an address with as many instructions is the same one. */
struct block { uint64_t address, instructions, times; struct block *next; };
#define BUCKETS (1u << 18)
static struct block *table[BUCKETS];
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static char folder[4000];

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    uint64_t address = qemu_plugin_tb_vaddr(tb), instructions = qemu_plugin_tb_n_insns(tb);
    uint32_t bucket = (uint32_t)((address * 0x9E3779B97F4A7C15ull) >> 46) % BUCKETS;
    struct block *it;
    (void)id;
    pthread_mutex_lock(&guard);
    for (it = table[bucket]; it && (it->address != address || it->instructions != instructions); it = it->next) {}
    if (!it) {
        it = calloc(1, sizeof *it);
        if (!it)
            abort();
        it->address = address;
        it->instructions = instructions;
        it->next = table[bucket];
        table[bucket] = it;
    }
    pthread_mutex_unlock(&guard);
    qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_PLUGIN_INLINE_ADD_U64, &it->times, 1);
}

static void dump(const char *name)
{
    char path[4300], part[4300];
    snprintf(part, sizeof part, "%s/part-%s", folder, name);
    snprintf(path, sizeof path, "%s/prof-%s", folder, name);
    FILE *file = fopen(part, "w");
    if (!file)
        return;
    pthread_mutex_lock(&guard);
    for (uint32_t bucket = 0; bucket < BUCKETS; bucket++)
        for (struct block *it = table[bucket]; it; it = it->next)
            if (it->times)
                fprintf(file, "%lx %lu %lu\n", it->address, it->instructions, it->times);
    pthread_mutex_unlock(&guard);
    if (fclose(file) == 0)
        rename(part, path);
}

static void *asked(void *unused)
{
    for (;; usleep(20000)) {
        DIR *list = opendir(folder);
        struct dirent *entry;
        if (!list)
            continue;
        while ((entry = readdir(list)))
            if (!strncmp(entry->d_name, "snap-", 5)) {
                char path[4300];
                dump(entry->d_name + 5);
                snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
                unlink(path);
            }
        closedir(list);
    }
    return unused;
}

int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
    pthread_t thread;
    (void)info;
    for (int i = 0; i < argc; i++)
        if (!strncmp(argv[i], "dir=", 4))
            snprintf(folder, sizeof folder, "%s", argv[i] + 4);
    if (!folder[0] || pthread_create(&thread, NULL, asked, NULL))
        return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
