import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.api.transaction.CuratorTransactionResult;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.CuratorCacheListener;
import org.apache.curator.framework.recipes.cache.PathChildrenCache;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.curator.framework.recipes.queue.SimpleDistributedQueue;
import org.apache.curator.retry.RetryForever;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.data.Stat;

/** Curator's recipes against one server, with the contention and the restarts they are made for. */
public class Recipes {
    static final int WAIT_S = 60;
    static final List<CuratorFramework> clients = Collections.synchronizedList(new ArrayList<>());

    interface Recipe {
        void run() throws Exception;
    }

    static CuratorFramework client() throws Exception {
        CuratorFramework client = CuratorFrameworkFactory.newClient(System.getenv("ZOO_ADDR"), 20000, 20000, new RetryForever(100));
        client.start();
        check("connected", client.blockUntilConnected(WAIT_S, TimeUnit.SECONDS));
        clients.add(client);
        return client;
    }

    static void check(String what, boolean ok) {
        if (!ok) throw new AssertionError(what);
    }

    static void equal(String what, Object got, Object want) {
        if (!want.equals(got)) throw new AssertionError(what + ": " + got + ", not " + want);
    }

    static void eventually(String what, Callable<Boolean> condition) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(WAIT_S);
        while (!condition.call()) {
            check(what, System.nanoTime() < deadline);
            Thread.sleep(20);
        }
    }

    static void restart(String signal) throws Exception {
        equal("restart", new ProcessBuilder(System.getenv("ZOO_RESTART"), signal).inheritIO().start().waitFor(), 0);
    }

    static void basics() throws Exception {
        CuratorFramework c = client();
        equal("path", c.create().creatingParentsIfNeeded().forPath("/b/x/y", "data".getBytes()), "/b/x/y");
        equal("container parents", c.create().creatingParentContainersIfNeeded().forPath("/b/cont/y"), "/b/cont/y");
        Stat stat = new Stat();
        equal("data", new String(c.getData().storingStatIn(stat).forPath("/b/x/y")), "data");
        equal("version", c.setData().withVersion(stat.getVersion()).forPath("/b/x/y", new byte[0]).getVersion(), 1);
        try {
            c.setData().withVersion(0).forPath("/b/x/y", new byte[0]);
            check("a stale version", false);
        } catch (KeeperException.BadVersionException expected) {
        }
        String protectedPath = c.create().withProtection().withMode(CreateMode.EPHEMERAL_SEQUENTIAL).forPath("/b/p-");
        check("protected", protectedPath.startsWith("/b/_c_") && protectedPath.endsWith("-p-0000000002"));
        List<CuratorTransactionResult> results = c.transaction().forOperations(
            c.transactionOp().create().forPath("/b/t", "1".getBytes()),
            c.transactionOp().setData().forPath("/b/t", "2".getBytes()),
            c.transactionOp().check().withVersion(1).forPath("/b/t"),
            c.transactionOp().delete().forPath("/b/x/y"));
        equal("results", results.size(), 4);
        equal("created", results.get(0).getResultPath(), "/b/t");
        equal("set", results.get(1).getResultStat().getVersion(), 1);
        try {
            c.transaction().forOperations(c.transactionOp().delete().forPath("/b/t"), c.transactionOp().check().forPath("/none"));
            check("a failing transaction", false);
        } catch (KeeperException.NoNodeException expected) {
            equal("results", expected.getResults().size(), 2);
        }
        check("no trace", c.checkExists().forPath("/b/t") != null);
        c.delete().guaranteed().deletingChildrenIfNeeded().forPath("/b");
        check("deleted", c.checkExists().forPath("/b") == null);
    }

    static void mutex() throws Exception {
        int holders = 5, rounds = 20;
        AtomicInteger inside = new AtomicInteger(), entered = new AtomicInteger();
        ExecutorService pool = Executors.newFixedThreadPool(holders);
        List<Future<?>> all = new ArrayList<>();
        for (int i = 0; i < holders; i++) {
            InterProcessMutex mutex = new InterProcessMutex(client(), "/mutex");
            all.add(pool.submit(() -> {
                for (int r = 0; r < rounds; r++) {
                    check("acquired", mutex.acquire(WAIT_S, TimeUnit.SECONDS));
                    equal("alone", inside.incrementAndGet(), 1);
                    entered.incrementAndGet();
                    inside.decrementAndGet();
                    mutex.release();
                }
                return null;
            }));
        }
        for (Future<?> f : all) f.get();
        pool.shutdown();
        equal("entered", entered.get(), holders * rounds);
        // The lock of a client that goes away is free at once.
        CuratorFramework first = client(), second = client();
        check("held", new InterProcessMutex(first, "/mutex").acquire(WAIT_S, TimeUnit.SECONDS));
        InterProcessMutex waiting = new InterProcessMutex(second, "/mutex");
        check("taken", !waiting.acquire(200, TimeUnit.MILLISECONDS));
        first.close();
        check("free", waiting.acquire(10, TimeUnit.SECONDS));
        waiting.release();
    }

    static void latch() throws Exception {
        List<LeaderLatch> latches = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            LeaderLatch latch = new LeaderLatch(client(), "/latch", "candidate" + i);
            latch.start();
            latches.add(latch);
            int count = i + 1;
            eventually("participants", () -> latch.getParticipants().size() == count);
        }
        for (int left = 3; left > 0; left--) {
            eventually("a leader", () -> latches.stream().filter(LeaderLatch::hasLeadership).count() == 1);
            LeaderLatch leader = latches.stream().filter(LeaderLatch::hasLeadership).findFirst().get();
            for (LeaderLatch latch : latches) eventually("agreed", () -> latch.getLeader().getId().equals(leader.getId()));
            latches.remove(leader);
            leader.close();
        }
    }

    static void pathChildrenCache() throws Exception {
        CuratorFramework c = client(), writer = client();
        writer.create().forPath("/pcc");
        BlockingQueue<String> events = new LinkedBlockingQueue<>();
        PathChildrenCache cache = new PathChildrenCache(c, "/pcc", true);
        cache.getListenable().addListener((ignored, event) -> {
            if (event.getData() != null) events.add(event.getType() + " " + event.getData().getPath());
        });
        cache.start(PathChildrenCache.StartMode.BUILD_INITIAL_CACHE);
        writer.create().forPath("/pcc/a", "1".getBytes());
        equal("added", events.poll(WAIT_S, TimeUnit.SECONDS), "CHILD_ADDED /pcc/a");
        writer.setData().forPath("/pcc/a", "2".getBytes());
        equal("updated", events.poll(WAIT_S, TimeUnit.SECONDS), "CHILD_UPDATED /pcc/a");
        equal("cached", new String(cache.getCurrentData("/pcc/a").getData()), "2");
        writer.delete().forPath("/pcc/a");
        equal("removed", events.poll(WAIT_S, TimeUnit.SECONDS), "CHILD_REMOVED /pcc/a");
        cache.close();
    }

    /** Built on persistent recursive watches; it must come through a restart. */
    static void curatorCache() throws Exception {
        CuratorFramework c = client(), writer = client();
        writer.create().creatingParentsIfNeeded().forPath("/cc/a/b", "0".getBytes());
        CuratorCache cache = CuratorCache.build(c, "/cc");
        CountDownLatch initialized = new CountDownLatch(1);
        AtomicInteger created = new AtomicInteger();
        cache.listenable().addListener(CuratorCacheListener.builder().forCreates(n -> created.incrementAndGet()).forInitialized(initialized::countDown).build());
        cache.start();
        check("initialized", initialized.await(WAIT_S, TimeUnit.SECONDS));
        eventually("three nodes", () -> cache.size() == 3);
        for (int i = 0; i < 50; i++) writer.create().forPath("/cc/a/n" + i, new byte[i]);
        eventually("all created", () -> created.get() == 53);
        restart("KILL");
        writer.setData().forPath("/cc/a/b", "after".getBytes());
        writer.delete().forPath("/cc/a/n7");
        writer.create().forPath("/cc/z", "z".getBytes());
        eventually("changed", () -> cache.get("/cc/a/b").map(d -> new String(d.getData())).orElse("").equals("after"));
        eventually("gone", () -> !cache.get("/cc/a/n7").isPresent());
        eventually("new", () -> cache.get("/cc/z").isPresent());
        equal("nodes", cache.size(), 53);
        cache.close();
    }

    static void queue() throws Exception {
        SimpleDistributedQueue in = new SimpleDistributedQueue(client(), "/queue");
        int items = 60;
        ExecutorService pool = Executors.newFixedThreadPool(3);
        List<String> got = Collections.synchronizedList(new ArrayList<>());
        List<Future<?>> all = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            SimpleDistributedQueue out = new SimpleDistributedQueue(client(), "/queue");
            all.add(pool.submit(() -> {
                for (int n = 0; n < items / 3; n++) got.add(new String(out.take()));
                return null;
            }));
        }
        for (int i = 0; i < items; i++) check("offered", in.offer(String.format("%04d", i).getBytes()));
        for (Future<?> f : all) f.get(WAIT_S, TimeUnit.SECONDS);
        pool.shutdown();
        Collections.sort(got);
        for (int i = 0; i < items; i++) equal("each once", got.get(i), String.format("%04d", i));
    }

    static void counterAndBarrier() throws Exception {
        int members = 4;
        ExecutorService pool = Executors.newFixedThreadPool(members);
        List<Future<?>> all = new ArrayList<>();
        for (int i = 0; i < members; i++) {
            CuratorFramework c = client();
            all.add(pool.submit(() -> {
                DistributedDoubleBarrier barrier = new DistributedDoubleBarrier(c, "/barrier", members);
                check("entered", barrier.enter(WAIT_S, TimeUnit.SECONDS));
                DistributedAtomicLong counter = new DistributedAtomicLong(c, "/counter", new RetryForever(5));
                for (int n = 0; n < 25; n++) check("added", counter.increment().succeeded());
                check("left", barrier.leave(WAIT_S, TimeUnit.SECONDS));
                return null;
            }));
        }
        for (Future<?> f : all) f.get(2 * WAIT_S, TimeUnit.SECONDS);
        pool.shutdown();
        equal("counted", new DistributedAtomicLong(client(), "/counter", new RetryForever(5)).get().postValue(), 100L);
    }

    /** The session and what it owns survive a clean restart. */
    static void persistentNode() throws Exception {
        CuratorFramework c = client();
        PersistentNode node = new PersistentNode(c, CreateMode.EPHEMERAL, false, "/pn", "x".getBytes());
        node.start();
        check("created", node.waitForInitialCreate(WAIT_S, TimeUnit.SECONDS));
        long session = c.getZookeeperClient().getZooKeeper().getSessionId();
        restart("TERM");
        Stat stat = client().checkExists().forPath("/pn");
        check("still there", stat != null);
        equal("same owner", stat.getEphemeralOwner(), session);
        c.checkExists().forPath("/pn");
        equal("same session", c.getZookeeperClient().getZooKeeper().getSessionId(), session);
        node.close();
        eventually("gone", () -> client().checkExists().forPath("/pn") == null);
    }

    static void run(String name, Recipe recipe) throws Exception {
        long start = System.nanoTime();
        recipe.run();
        for (CuratorFramework c : clients) c.close();
        clients.clear();
        System.out.println(name + ": " + TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - start) + " ms");
    }

    public static void main(String[] args) throws Exception {
        try {
            run("basics", Recipes::basics);
            run("mutex", Recipes::mutex);
            run("latch", Recipes::latch);
            run("path children cache", Recipes::pathChildrenCache);
            run("queue", Recipes::queue);
            run("counter and barrier", Recipes::counterAndBarrier);
            run("curator cache", Recipes::curatorCache);
            run("persistent node", Recipes::persistentNode);
        } catch (Throwable e) {
            e.printStackTrace();
            System.exit(1);
        }
        System.exit(0);
    }
}
