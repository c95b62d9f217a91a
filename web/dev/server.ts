import type { IncomingMessage, ServerResponse } from "node:http";
import { fileURLToPath } from "node:url";
import type { Plugin } from "vite";
import { readFileSync } from "node:fs";

/** Answers like the gateway from records made up in memory. Lives only in the dev server. */
export function fixtureServer(): Plugin {
  return {
    name: "fixture",
    configureServer(server) {
      const here = fileURLToPath(new URL(".", import.meta.url));
      const file = process.env["OPENAPI"] ?? `${here}../../gateway/openapi.json`;
      const openapi = JSON.parse(readFileSync(file, "utf8")) as {
        components: { schemas: Record<string, { "x-resource"?: Note }> };
      };
      const store = seed(
        Object.values(openapi.components.schemas).flatMap((schema) => schema["x-resource"] ?? []),
      );
      const verbs = new Set<ServerResponse>();
      let signedIn = true;

      server.middlewares.use((request, response, next) => {
        const url = new URL(request.url ?? "/", "http://local");
        const send = (status: number, body: unknown) => {
          response.statusCode = status;
          response.setHeader("Content-Type", "application/json");
          response.end(JSON.stringify(body));
        };
        const refuse = (status: number, reason: string, message: string, violations: unknown[] = []) => {
          send(status, {
            error: {
              code: status,
              status: reason,
              message,
              details: [
                { "@type": "x/google.rpc.ErrorInfo", reason, domain: "fixture", metadata: {} },
                { "@type": "x/google.rpc.BadRequest", fieldViolations: violations },
                { "@type": "x/google.rpc.RequestInfo", requestId: "fixture-1" },
              ],
            },
          });
        };
        if (url.pathname === "/openapi.json") return send(200, openapi);
        if (url.pathname === "/session/sign-in") {
          signedIn = true;
          response.writeHead(302, { Location: url.searchParams.get("return_to") ?? "/" });
          return response.end();
        }
        if (url.pathname === "/session/sign-out") {
          signedIn = false;
          return send(200, {});
        }
        if (url.pathname === "/session")
          return signedIn
            ? send(200, {
                signedIn: true,
                employee: "employees/1",
                displayName: "李雪梅",
                roles: ["sales_manager"],
                permissions: ["*"],
                locale: "zh-CN",
                csrf: "token",
              })
            : send(200, { signedIn: false });
        if (!url.pathname.startsWith("/v1/")) return next();
        if (!signedIn) return refuse(401, "UNAUTHENTICATED", "请先登录。");
        if (url.pathname === "/v1/stream") {
          response.writeHead(200, { "Content-Type": "text/event-stream" });
          response.write(": hello\n\n");
          verbs.add(response);
          response.on("close", () => verbs.delete(response));
          return;
        }
        const tell = (name: string, action: string) => {
          for (const client of verbs)
            client.write(`event: changed\ndata: ${JSON.stringify({ name, action })}\n\n`);
        };
        const match = /^\/v1\/(\w+)(?:\/([^:]+))?(?::(\w+))?$/.exec(decodeURIComponent(url.pathname));
        const rows = match ? store[match[1]!] : undefined;
        if (!match || !rows) return refuse(404, "NOT_FOUND", "记录不存在。");
        const [, collection, id, verb] = match;
        const query = url.searchParams;
        const row = id ? rows.find((candidate) => candidate["name"] === `${collection}/${id}`) : undefined;
        if (id && !row) return refuse(404, "NOT_FOUND", "记录不存在。");

        if (collection === "files" && request.method === "POST") {
          request.resume();
          request.on("end", () =>
            send(200, touch({ name: `files/${crypto.randomUUID()}`, displayName: "x" })),
          );
          return;
        }
        void body(request).then((input) => {
          if (request.method === "GET" && row && verb === "explainAccess")
            return send(200, {
              visible: true,
              grounds: [
                { kind: "OWNER", text: "您是负责人。" },
                { kind: "ALL", text: "角色“销售经理”可查看全公司数据。" },
              ],
            });
          if (request.method === "GET" && row) return send(200, row);
          if (verb === "batchGet") {
            const names = query.getAll("names");
            return send(200, {
              [collection!]: rows.filter((candidate) => names.includes(String(candidate["name"]))),
            });
          }
          const found = select(rows, query);
          if (verb === "aggregate") return send(200, { rows: grouped(found, query) });
          if (request.method === "GET") {
            const size = Number(query.get("pageSize") ?? 50);
            const start = Number(query.get("pageToken") || 0);
            const next = start + size;
            return send(200, {
              [collection!]: found.slice(start, next),
              nextPageToken: next < found.length ? String(next) : "",
            });
          }
          if (verb === "batchUpdate") {
            const changed = (input["requests"] as Record<string, unknown>[]).map((change) => {
              const {
                name,
                etag: _,
                ...fields
              } = Object.values(change).find((value) => typeof value === "object") as Record<string, unknown>;
              return touch(
                Object.assign(
                  rows.find((candidate) => candidate["name"] === name)!,
                  fields,
                ),
              );
            });
            changed.forEach((record) => tell(String(record["name"]), "UPDATED"));
            return send(200, { [collection!]: changed });
          }
          const etag = String(request.headers["if-match"] ?? "").replaceAll('"', "");
          if (row && etag && etag !== row["etag"])
            return refuse(412, "ETAG_MISMATCH", "该记录已被他人修改，请刷新后重试。");
          if (request.method === "DELETE" && row) {
            rows.splice(rows.indexOf(row), 1);
            tell(String(row["name"]), "DELETED");
            return send(200, {});
          }
          if (request.method === "PATCH" && row) {
            for (const [key, value] of Object.entries(input))
              if (value === null) delete row[key];
              else row[key] = value;
            touch(row);
            tell(String(row["name"]), "UPDATED");
            return send(200, row);
          }
          if (verb && row) {
            if (verb === "advance" && row["state"] !== "OPEN")
              return refuse(409, "ILLEGAL_TRANSITION", "当前状态不允许此操作。");
            const state = { win: "WON", lose: "LOST", archive: "ARCHIVED", unarchive: "ACTIVE" }[verb];
            if (state) row["state"] = state;
            Object.assign(row, Object.fromEntries(Object.entries(input).filter(([key]) => key in row)));
            touch(row);
            tell(String(row["name"]), "UPDATED");
            return send(200, row);
          }
          if (String(input["displayName"] ?? "").length > 200)
            return refuse(422, "VALIDATION", "提交的内容有误，请检查标出的字段。", [
              { field: "displayName", description: "最多 200 个字符。" },
            ]);
          const created = touch({
            name: `${collection}/${crypto.randomUUID()}`,
            state: "ACTIVE",
            ...input,
            createTime: new Date().toISOString(),
            owner: "employees/1",
            number: `N-${rows.length + 1}`,
          });
          if (collection === "bulkJobs") {
            Object.assign(created, { state: "RUNNING", total: 20, done: 0, failed: 0 });
            setTimeout(() => Object.assign(created, { done: 12 }), 1500);
            setTimeout(
              () =>
                Object.assign(created, {
                  state: input["mode"] === "DRY_RUN" ? "DONE_WITH_ERRORS" : "DONE",
                  done: 20,
                  failed: 2,
                  errorFile: "files/1",
                  etag: "9",
                }),
              3000,
            );
          }
          rows.unshift(created);
          tell(String(created["name"]), "CREATED");
          return send(200, created);
        });
      });
    },
  };
}

type Row = Record<string, unknown>;
interface Note {
  collection: string;
}

const touch = (row: Row): Row =>
  Object.assign(row, { etag: String(Number(row["etag"] ?? 0) + 1), updateTime: new Date().toISOString() });

async function body(request: IncomingMessage): Promise<Row> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  return parts.length ? (JSON.parse(Buffer.concat(parts).toString() || "{}") as Row) : {};
}

/** Understands `field = "x"`, `!=`, `:` joined by AND: enough to look at the screens. */
function select(rows: Row[], query: URLSearchParams): Row[] {
  const q = query.get("q")?.toLowerCase();
  const conditions = [...(query.get("filter") ?? "").matchAll(/([\w.]+)\s*(!?=|:)\s*(?:"([^"]*)"|(\w+))/g)];
  const found = rows.filter(
    (row) =>
      (!q || JSON.stringify(row).toLowerCase().includes(q)) &&
      conditions.every(([, field, sign, quoted, bare]) => {
        const value = bare === "me" ? "employees/1" : (quoted ?? bare ?? "");
        const own = row[field!];
        if (sign === ":") return JSON.stringify(own ?? "").includes(value);
        return (String(own) === value) === (sign === "=");
      }),
  );
  const [order, direction] = (query.get("orderBy") ?? "").split(" ");
  if (!order) return found;
  const key = (row: Row) => {
    const value = row[order] as { amount?: string } | string | undefined;
    return typeof value === "object"
      ? value.amount
        ? Number(value.amount)
        : JSON.stringify(value)
      : (value ?? "");
  };
  return found.toSorted(
    (a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0) * (direction === "desc" ? -1 : 1),
  );
}

function grouped(rows: Row[], query: URLSearchParams) {
  const by = query.getAll("groupBy");
  const groups = new Map<string, { group: string[]; count: number; sums: Record<string, number> }>();
  for (const row of rows) {
    const group = by.map((field) => String(row[field] ?? ""));
    const entry = groups.get(group.join("|")) ?? { group, count: 0, sums: {} };
    entry.count++;
    for (const field of query.getAll("sum")) {
      const value = row[field] as { amount?: string; currencyCode?: string } | undefined;
      if (value?.amount)
        entry.sums[`${field}:CNY`] = (entry.sums[`${field}:CNY`] ?? 0) + Number(value.amount);
    }
    groups.set(group.join("|"), entry);
  }
  return [...groups.values()].map(({ group, count, sums }) => ({
    group,
    count: String(count),
    sums: Object.fromEntries(Object.entries(sums).map(([field, sum]) => [field, sum.toFixed(2)])),
    averages: {},
  }));
}

function seed(notes: Note[]): Record<string, Row[]> {
  const store: Record<string, Row[]> = Object.fromEntries(notes.map((note) => [note.collection, []]));
  let state = 7;
  const random = () => (state = (state * 48271) % 2147483647) / 2147483647;
  const one = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)]!;
  const day = (shift: number) => new Date(Date.now() + shift * 864e5);
  const base = (collection: string, index: number, fields: Row): Row => ({
    name: `${collection}/${index}`,
    etag: "1",
    owner: `employees/${1 + Math.floor(random() * 6)}`,
    department: "departments/2",
    creator: "employees/1",
    createTime: day(-random() * 400).toISOString(),
    updateTime: day(-random() * 20).toISOString(),
    ...fields,
  });
  const fill = (collection: string, count: number, make: (index: number) => Row) => {
    store[collection] = Array.from({ length: count }, (_, index) =>
      base(collection, index + 1, make(index + 1)),
    );
  };
  const cities = ["杭州", "上海", "苏州", "深圳", "成都", "武汉", "北京", "宁波"];
  const words = ["恒信", "远东", "明德", "华峰", "致远", "博雅", "金帆", "云舟", "天行", "瑞丰"];
  const trades = ["精密机械", "建筑设计", "文化传播", "软件技术", "医疗器械", "印务", "新材料", "物流"];
  const people = ["王建国", "陈思远", "刘芳", "周敏", "赵一鸣", "孙丽华", "张三", "吴昊"];
  fill("departments", 3, (index) => ({ displayName: ["集团总部", "华东销售部", "客户服务部"][index - 1] }));
  fill("employees", 6, (index) => ({
    displayName: ["李雪梅", "王磊", "陈晓东", "赵倩", "刘洋", "黄志强"][index - 1],
    post: "销售代表",
  }));
  fill("pipelines", 1, () => ({
    displayName: "标准销售流程",
    isDefault: true,
    state: "ACTIVE",
    stages: [
      ["lead", "初步接洽", "10"],
      ["need", "需求确认", 30],
      ["offer", "方案报价", 50],
      ["talk", "商务谈判", 80],
    ].map(([key, displayName, probability]) => ({ key, displayNameEn: key, displayName, probability })),
  }));
  fill("products", 12, (index) => ({
    displayName: `展示系统 ${index} 型`,
    number: `P-000${index}`,
    unit: "套",
    listPrice: { currencyCode: "CNY", amount: `${index * 1200}.00` },
  }));
  fill("accounts", 640, (index) => ({
    displayName: `${one(cities)}${one(words)}${one(trades)}有限公司`,
    number: `C-${String(index).padStart(6, "0")}`,
    kind: "COMPANY",
    roles: [one(["PROSPECT", "CUSTOMER"])],
    phones: [
      {
        number: `+86138${String(10000000 + index * 977).slice(0, 8)}`,
        type: "MOBILE",
        primary: true,
        valid: true,
      },
    ],
    industry: one(["制造业", "建筑业", "信息技术", "文化传媒"]),
    source: one(["展会", "转介绍", "官网", "电话"]),
    level: one(["A", "B", "C"]),
    state: one(["ACTIVE", "ACTIVE", "ACTIVE", "POOLED"]),
    lastInteractionTime: day(-random() * 60).toISOString(),
    employeeCount: 20 + index,
    completeness: 60,
    annualRevenue: { currencyCode: "CNY", amount: `${index * 31000}.00` },
    background: "老客户推荐，关注交付周期与售后。",
    tags: ["重点"],
    website: "www.example.cn",
    addresses: [{ type: "OFFICE", country: "CN", line: `${one(cities)}市解放路 ${index} 号` }],
  }));
  fill("contacts", 900, (index) => ({
    displayName: one(people),
    account: `accounts/${1 + (index % 640)}`,
    title: one(["采购经理", "总经理", "技术总监", "行政主管"]),
    phones: [{ number: `+86139${String(20000000 + index * 613).slice(0, 8)}`, primary: true, valid: true }],
    decisionRole: one(["DECIDER", "INFLUENCER", "USER"]),
    state: "ACTIVE",
  }));
  fill("interactions", 400, (index) => ({
    account: `accounts/${1 + (index % 60)}`,
    channel: one(["CALL", "VISIT", "WECHAT", "EMAIL"]),
    direction: "OUTBOUND",
    startTime: day(-index / 3).toISOString(),
    summary: one([
      "电话沟通需求，客户希望下周看样品。",
      "上门拜访，确认了预算与时间表。",
      "发送报价单，等待反馈。",
    ]),
    state: "LOGGED",
    contacts: ["contacts/1"],
  }));
  fill("opportunities", 220, (index) => ({
    displayName: `${one(words)}${one(["展厅改造", "年度印刷", "软件升级", "设备采购"])}项目`,
    number: `O-${String(index).padStart(5, "0")}`,
    account: `accounts/${1 + (index % 90)}`,
    pipeline: "pipelines/1",
    stage: one(["lead", "lead", "need", "offer", "talk"]),
    amount: { currencyCode: "CNY", amount: `${Math.floor(random() * 90 + 3) * 10000}.00` },
    expectedCloseDate: { year: 2026, month: 1 + (index % 12), day: 1 + (index % 28) },
    state: index % 5 === 0 ? "WON" : index % 7 === 0 ? "LOST" : "OPEN",
    lines: [{ product: "products/1", quantity: "3", price: { currencyCode: "CNY", amount: "1200.00" } }],
  }));
  fill("tickets", 80, (index) => ({
    subject: one(["屏幕无法点亮", "发票抬头需要更正", "安装时间确认", "配件缺失"]),
    number: `T-${String(index).padStart(6, "0")}`,
    account: `accounts/${1 + (index % 50)}`,
    priority: one(["LOW", "NORMAL", "URGENT"]),
    state: one(["NEW", "IN_PROGRESS", "SOLVED"]),
    dueTime: day(random() * 6 - 2).toISOString(),
  }));
  fill("timeline", 300, (index) => ({
    account: `accounts/${1 + (index % 20)}`,
    occurTime: day(-index / 2).toISOString(),
    kind: one(["InteractionLogged", "OpportunityWon", "InvoiceIssued", "TicketOpened"]),
    phase: one(["PRESALE", "INSALE", "AFTERSALE"]),
    ref: "opportunities/1",
    summary: one([
      "王磊电话联系了王建国",
      "商机“展厅改造项目”赢单",
      "开具发票 INV-2026-0031",
      "新工单：屏幕无法点亮",
    ]),
    actor: "employees/2",
    ...(index % 4 === 1 ? { amount: { currencyCode: "CNY", amount: "128000.00" } } : {}),
  }));
  fill("notifications", 9, (index) => ({
    displayName: one(["商机“展厅改造”已赢单", "有新工单分配给您", "报价单等待您审批"]),
    target: `opportunities/${index}`,
    ...(index > 4 ? { readTime: day(-1).toISOString() } : {}),
  }));
  fill("auditEntries", 60, (index) => ({
    resource: `accounts/${1 + (index % 6)}`,
    action: one(["UPDATED", "CREATED"]),
    actor: "employees/2",
    time: day(-index).toISOString(),
    seq: index,
    before: JSON.stringify({ level: "B", industry: "制造业" }),
    after: JSON.stringify({ level: "A", industry: "信息技术" }),
  }));
  fill("approvals", 4, (index) => ({
    displayName: `报价单 Q-2026-00${index} 提交审批`,
    number: `AP-${index}`,
    target: "opportunities/1",
    action: "crm.sales.v1.SalesService/WinOpportunity",
    digest: "d",
    requester: "employees/3",
    state: "PENDING",
    facts: {
      name: "opportunities/1",
      displayName: "远东年度印刷项目",
      amount: { currencyCode: "CNY", amount: "360000.00" },
      account: "accounts/2",
      state: "OPEN",
    },
  }));
  fill("apiKeys", 2, (index) => ({
    displayName: `网站表单 ${index}`,
    keyId: `k${index}abc123`,
    permissions: ["sales.leads.create"],
    state: "ACTIVE",
  }));
  fill("tasks", 12, (index) => ({
    displayName: one(["回电客户", "准备样品", "发送合同"]),
    dueTime: day(index - 3).toISOString(),
    state: "OPEN",
    priority: "NORMAL",
  }));
  fill("dictionaries", 1, () => ({
    key: "industries",
    displayName: "行业",
    entries: ["制造业", "建筑业", "信息技术", "文化传媒"].map((label) => ({
      key: label,
      label: { zh: label, en: `Industry ${label}` },
    })),
  }));
  fill("quotes", 3, (index) => ({
    displayName: "展厅改造报价",
    number: `Q-2026-00${index}`,
    account: "accounts/2",
    opportunity: "opportunities/1",
    state: "DRAFT",
    currency: "CNY",
    grossTotal: { currencyCode: "CNY", amount: "33900.00" },
    versionNumber: 1,
    lines: [
      {
        product: "products/1",
        quantity: "10",
        unitPrice: { currencyCode: "CNY", amount: "3000.00" },
        discountPercent: "0",
        taxRate: "13",
        netAmount: { currencyCode: "CNY", amount: "30000.00" },
        taxAmount: { currencyCode: "CNY", amount: "3900.00" },
        grossAmount: { currencyCode: "CNY", amount: "33900.00" },
      },
    ],
  }));
  fill("customFields", 2, (index) => ({
    collection: "accounts",
    key: ["region_tier", "vip"][index - 1],
    displayName: ["区域层级", "贵宾"][index - 1],
    englishName: ["Region tier", "VIP"][index - 1],
    kind: ["CHOICE", "BOOL"][index - 1],
    state: "ACTIVE",
    choices: [{ key: "T1", label: { zh: "一线", en: "Tier 1" } }],
  }));
  return store;
}
