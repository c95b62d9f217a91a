/**
 * The one place where a collection gets more than its declaration in the protos says:
 * where it stands in the menu, its icon, the order of its columns, its board, its special page.
 * A collection that is not named here still has all its screens.
 */

import type { Additions } from "@/api/catalogue";
import type { Json, RecordJson } from "@/api/client";

export interface Group {
  key: string;
  /** Collections in the order of the menu; others that declare this menu group follow. */
  collections: string[];
  /** Pages of their own: the collection that one must be able to read, or to create in. */
  pages?: { key: string; path: string; icon: string; needs: string; to?: "create" }[];
}

export const MENU: Group[] = [
  {
    key: "customers",
    collections: [
      "accounts",
      "contacts",
      "interactions",
      "duplicateCases",
      "merges",
      "transfers",
      "creditProfiles",
      "profileChanges",
      "carePlans",
      "imports",
    ],
    pages: [{ key: "sea", path: "/sea", icon: "sea", needs: "poolItems" }],
  },
  {
    key: "sales",
    collections: ["leads", "opportunities", "quotes", "targets", "products", "priceBooks", "competitors"],
    pages: [
      { key: "leadPools", path: "/lead-pools", icon: "sea", needs: "leadPoolItems" },
      { key: "callDesk", path: "/call-desk", icon: "calls", needs: "callEntries" },
      { key: "till", path: "/till", icon: "orders", needs: "quotes", to: "create" },
      { key: "funnel", path: "/funnel", icon: "funnel", needs: "opportunities" },
      { key: "visitDay", path: "/visit-day", icon: "visits", needs: "visits" },
      { key: "forecast", path: "/forecast", icon: "forecast", needs: "forecasts" },
      { key: "performance", path: "/performance", icon: "forecast", needs: "appraisals" },
      { key: "winRates", path: "/win-rates", icon: "competitors", needs: "competitors" },
    ],
  },
  { key: "contracts", collections: ["contracts", "orders", "deliveries"] },
  { key: "money", collections: ["paymentPlans", "invoices", "payments", "allocations", "accountBalances"] },
  { key: "service", collections: ["tickets"] },
  { key: "marketing", collections: ["campaigns", "segments", "campaignMembers"] },
  {
    key: "work",
    collections: ["tasks", "notes", "files"],
    pages: [
      { key: "myDay", path: "/my-day", icon: "plans", needs: "tasks" },
      { key: "workRecord", path: "/work-record", icon: "plans", needs: "workSummaries" },
      { key: "centre", path: "/centre", icon: "notes", needs: "posts" },
      { key: "documents", path: "/documents", icon: "files", needs: "folders" },
      { key: "experts", path: "/experts", icon: "employees", needs: "employees" },
      { key: "mail", path: "/mail", icon: "mail", needs: "mailMessages" },
      { key: "usage", path: "/usage", icon: "audit", needs: "usageFindings" },
      { key: "punch", path: "/punch", icon: "home", needs: "attendance" },
      { key: "calendar", path: "/calendar", icon: "calendar", needs: "calendarEvents" },
      { key: "approvals", path: "/approvals", icon: "approvals", needs: "approvals" },
    ],
  },
  { key: "insight", collections: [] },
  {
    key: "settings",
    collections: [
      "employees",
      "departments",
      "roles",
      "dictionaries",
      "customFields",
      "numberRules",
      "pipelines",
      "pools",
      "poolRules",
      "leadPools",
      "leadPoolRules",
      "approvalPolicies",
      "notificationRules",
      "bulkJobs",
    ],
    pages: [
      { key: "accountRequests", path: "/account-requests", icon: "employees", needs: "employees" },
      { key: "audit", path: "/audit", icon: "audit", needs: "auditEntries" },
      { key: "keys", path: "/keys", icon: "keys", needs: "apiKeys" },
      { key: "backups", path: "/backups", icon: "imports", needs: "backups" },
    ],
  },
];

/** Menu groups that a declaration names by its area. */
export const MENU_ALIAS: Record<string, string> = {
  customer: "customers",
  orders: "contracts",
  billing: "money",
  servicedesk: "service",
  workspace: "settings",
};

export interface Board {
  /** The field whose values are the columns: one of the `keyed` fields, or a choice. */
  field: string;
  /** Field of the record that names the holder of the columns, where the field is keyed. */
  through?: string;
  /** The money field that a column adds up. */
  sum?: string;
  /** Only these records stand on the board. */
  filter: string;
  /** Verbs that move a card to a later and to an earlier column. */
  forward?: string;
  back?: string;
  /** The columns of a choice in their order, each with the verbs that lead there; the first that fits is called. */
  moves?: Record<string, string[]>;
  card: string[];
  orderBy?: string;
}

export interface Tree {
  /** The field that names the record above. */
  parent: string;
  /** The verb that moves a record, where the field cannot be changed by itself. */
  move?: string;
  orderBy: string;
  /** Fields beside the title. */
  show: string[];
}

export interface Screen {
  icon?: string;
  /** First columns of the list, before what the declaration marks as listed. */
  columns?: string[];
  /** Order until somebody picks another. */
  orderBy?: string;
  board?: Board;
  tree?: Tree;
  /** Fields that hold the key of an item in a list of another record: the stage in its pipeline. */
  keyed?: Additions["keyed"];
  /** Texts that are chosen from elsewhere: codes of another collection, or the platform's permissions. */
  suggest?: Additions["suggest"];
  /** Texts that name records of these collections. */
  references?: Additions["references"];
  /** Texts with an input of their own: a time on the wall, a recurrence. */
  kinds?: Additions["kinds"];
  /** What is told beside the form while one types: a clash of times, a customer that is there already. */
  advice?: "times" | "collision" | "prices" | "numbers";
  /** The advice is about the lines, so it stands below them. */
  adviceBelow?: true;
  /** Documents of a record, made by the server in a language. */
  papers?: { key: string; body: Record<string, unknown> }[];
  /** Verbs that stand as buttons, by state; the rest is in the menu. */
  flow?: Record<string, string[]>;
  /** Verbs that are for some people alone: those whom these fields of the record name. */
  reserved?: Record<string, string | string[]>;
  /** Fields that only make sense together with a value of another one. */
  showWhen?: Record<string, { field: string; is: string[] }>;
  /** The states that a record goes through where all goes well. */
  path?: string[];
  /** What runs out, in which states. */
  clocks?: { field: string; states: string[] }[];
  /** The first tabs of the record's page, those opened most first: collections that name it, `lines`, or a tab of its own. */
  tabs?: string[];
  /** Fields that no form asks for. */
  unasked?: string[];
  /** Fields of every record that this one's form asks for nevertheless. */
  asked?: string[];
  /** Values that a new record starts with. */
  defaults?: () => Record<string, unknown>;
  /** What is made of a record next, and what the new one takes from it. */
  makes?: { collection: string; states: string[]; from: (record: RecordJson) => Record<string, unknown> }[];
  /** What may be asked for where a new record is refused, by the reason, and what it takes from the form. */
  instead?: Record<
    string,
    {
      collection: string;
      from: (values: Json, metadata: Readonly<Record<string, string>>) => Record<string, unknown>;
    }
  >;
  /** What is made of several chosen records together, of so many at the most. */
  together?: {
    collection: string;
    most: number;
    label: string;
    from: (names: string[]) => Record<string, unknown>;
  };
  /** Verbs without parameters that ask before they act. */
  asksFirst?: string[];
  /** A page for people outside, with the states in which it is there. */
  publicPage?: { path: (id: string) => string; states: string[]; label: string };
  /** A page written by hand in place of the generic one. */
  detail?:
    | "account"
    | "role"
    | "quote"
    | "poolRule"
    | "leadPoolRule"
    | "collision"
    | "merge"
    | "target"
    | "transfer"
    | "opportunity"
    | "visit"
    | "policy"
    | "bundle"
    | "approvalPolicy"
    | "mail"
    | "callList"
    | "employee"
    | "post"
    | "file"
    | "department"
    | "auditEntry"
    | "territoryPlan"
    | "dictionary"
    | "numberRule"
    | "proposal"
    | "appraisal"
    | "gradingRule";
  /** A page of its own or a part of other pages; kept out of the generated menu entries. */
  hidden?: boolean;
  /** Records come from elsewhere than the generic form. */
  noForm?: boolean;
  /** Each is a deed, a draft or a connection of its own; no table of them comes from elsewhere. */
  oneByOne?: boolean;
}

const SUBJECTS = ["departments", "employees", "accounts"];
/** Fields of a record of some kinds. */
const ofKind = (...is: string[]) => ({ field: "kind", is });
const individual = ofKind("INDIVIDUAL");
const company = ofKind("COMPANY", "");
const yuan = () => ({ currency: "CNY" });
const stage = {
  collection: "pipelines",
  list: "stages",
  key: "key",
  label: { zh: "displayName", en: "displayNameEn" },
};
const NEWEST = "createTime desc";

/** A mail about a record, to whom the record names. */
const mailFrom = (...states: string[]) => ({
  collection: "mailMessages",
  states,
  from: (record: RecordJson) => ({
    ...(record["account"] ? { account: record["account"], contact: record.name } : { account: record.name }),
    to: ((record["emails"] ?? []) as { address: string; primary?: boolean }[])
      .toSorted((a, b) => Number(b.primary ?? false) - Number(a.primary ?? false))
      .slice(0, 1)
      .map(({ address }) => ({ address })),
  }),
});

export const SCREENS: Record<string, Screen> = {
  accounts: {
    icon: "accounts",
    makes: [
      ...["opportunities", "quotes"].map((collection) => ({
        collection,
        states: ["ACTIVE"],
        from: (account: RecordJson) => ({ account: account.name, ...SCREENS[collection]?.defaults?.() }),
      })),
      mailFrom("ACTIVE"),
    ],
    together: {
      collection: "merges",
      most: 10,
      label: "merge.together",
      from: ([survivor, ...losers]) => ({ survivor, losers }),
    },
    detail: "account",
    advice: "collision",
    orderBy: "updateTime desc",
    flow: { ACTIVE: ["assign"], POOLED: ["claim", "assign"], ARCHIVED: ["unarchive"] },
    columns: [
      "displayName",
      "number",
      "level",
      "state",
      "industry",
      "source",
      "owner",
      "lastInteractionTime",
      "seaDueTime",
    ],
    defaults: () => ({ kind: "COMPANY" }),
    showWhen: {
      familyName: individual,
      givenName: individual,
      sex: individual,
      birth: individual,
      hobbies: individual,
      build: individual,
      occupation: individual,
      legalName: company,
      taxId: company,
      employeeCount: company,
      annualRevenue: company,
    },
  },
  contacts: {
    icon: "contacts",
    makes: [mailFrom("ACTIVE")],
    flow: { ACTIVE: [] },
    columns: ["displayName", "account", "title", "phones", "decisionRole", "state", "owner"],
  },
  interactions: {
    icon: "interactions",
    orderBy: "startTime desc",
    flow: { LOGGED: ["amend", "comment"], AMENDED: ["amend", "comment"] },
    columns: ["summary", "account", "channel", "startTime", "owner"],
    defaults: () => ({ startTime: new Date().toISOString(), channel: "CALL", direction: "OUTBOUND" }),
    unasked: ["sourceKey"],
  },
  accountRelations: { icon: "relations" },
  pools: {
    oneByOne: true,
    icon: "sea",
    flow: { OPEN: ["assignItems"] },
    suggest: { memberRoles: { collection: "roles", value: "code" } },
  },
  poolItems: { icon: "sea", hidden: true, flow: {} },
  poolClaims: { hidden: true },
  simulatedReturns: { hidden: true },
  poolRules: {
    icon: "sea",
    orderBy: NEWEST,
    flow: { DRAFT: ["simulate", "activate"], ACTIVE: ["simulate"] },
    suggest: { "clauses.when.roles": { collection: "roles", value: "code" } },
    detail: "poolRule",
  },
  merges: {
    icon: "collision",
    orderBy: NEWEST,
    columns: ["displayName", "number", "survivor", "losers", "state", "runTime", "owner"],
    flow: {
      DRAFT: ["preview"],
      PREVIEWED: ["run", "preview"],
      RUNNING: ["resume"],
      DONE: ["undo"],
      UNDOING: ["resume"],
    },
    asksFirst: ["run", "undo"],
    unasked: ["choices", "contactPairs"],
    detail: "merge",
  },
  targets: {
    icon: "forecast",
    orderBy: "fromDate desc",
    columns: ["displayName", "subject", "metric", "fromDate", "base", "actual", "light", "state", "owner"],
    references: { subject: SUBJECTS, subjects: SUBJECTS },
    flow: { DRAFT: ["approve", "distribute"], RUNNING: ["review", "distribute"], CHECKED: ["close"] },
    detail: "target",
  },
  targetFacts: { hidden: true },
  transfers: {
    oneByOne: true,
    icon: "employees",
    orderBy: NEWEST,
    columns: ["displayName", "number", "from", "reason", "state", "moved", "effectiveTime", "owner"],
    flow: {
      DRAFT: ["preview"],
      PREVIEWED: ["run", "preview"],
      SCHEDULED: ["cancel"],
      AWAITING_ACCEPTANCE: ["accept", "undo"],
      DONE: ["undo"],
    },
    asksFirst: ["run", "undo"],
    suggest: { "plan.collections": "collections" },
    detail: "transfer",
  },
  transferItems: { hidden: true },
  leadPools: {
    oneByOne: true,
    icon: "sea",
    flow: {},
    suggest: { memberRoles: { collection: "roles", value: "code" } },
  },
  leadPoolItems: { icon: "sea", hidden: true, flow: {} },
  leadPoolRules: {
    icon: "sea",
    orderBy: NEWEST,
    flow: { DRAFT: ["simulate", "activate"], ACTIVE: ["simulate"] },
    detail: "leadPoolRule",
  },
  duplicateCases: {
    icon: "collision",
    orderBy: NEWEST,
    columns: ["displayName", "number", "kind", "level", "state", "claimant", "waitingFor", "deadline"],
    flow: {
      WAITING_OWNER: ["respond"],
      IN_ARBITRATION: ["decide"],
      DECIDED: ["appeal"],
      APPEALED: ["decide"],
    },
    reserved: { respond: "waitingFor", decide: "waitingFor", appeal: ["claimant", "holder"] },
    detail: "collision",
  },
  imports: { icon: "imports", orderBy: NEWEST, noForm: true, flow: { CHECKED: ["run"], DONE: ["revert"] } },
  consents: { icon: "consents" },
  leads: {
    icon: "leads",
    orderBy: NEWEST,
    flow: {
      NEW: ["work", "claim"],
      WORKING: ["convert", "wait"],
      WAITING: ["resume", "convert"],
      DISQUALIFIED: ["reopen"],
    },
    columns: [
      "displayName",
      "companyName",
      "personName",
      "channel",
      "rating",
      "state",
      "owner",
      "createTime",
    ],
    unasked: ["externalId"],
    board: {
      field: "state",
      filter: "",
      moves: {
        NEW: ["reopen"],
        WORKING: ["work", "resume", "claim"],
        WAITING: ["wait"],
        CONVERTED: ["convert"],
        DISQUALIFIED: ["disqualify"],
      },
      card: ["companyName", "channel", "rating", "owner"],
    },
  },
  opportunities: {
    icon: "opportunities",
    tabs: ["quotes", "salesTasks", "visits", "proposals", "contracts", "orders", "lines", "history"],
    detail: "opportunity",
    orderBy: "updateTime desc",
    columns: ["displayName", "number", "account", "amount", "stage", "state", "expectedCloseDate", "owner"],
    keyed: { stage, "stageHistory.stage": stage },
    board: {
      field: "stage",
      through: "pipeline",
      sum: "amount",
      filter: 'state = "OPEN"',
      forward: "advance",
      back: "retreat",
      card: ["account", "amount", "expectedCloseDate", "owner"],
    },
    makes: [
      {
        collection: "quotes",
        states: ["OPEN"],
        from: (opportunity) => ({
          account: opportunity["account"],
          opportunity: opportunity.name,
          ...yuan(),
        }),
      },
    ],
    instead: {
      DEAL_PROTECTED: {
        collection: "jointWorkRequests",
        from: (deal, { product_lines: lines = "" }) => ({
          account: deal["account"],
          productLines: lines.split(", "),
        }),
      },
    },
    flow: { OPEN: ["win", "lose"], SUSPENDED: ["resume"], WON: ["reopen"], LOST: ["reopen"] },
    unasked: ["stage", "pipeline", "probabilitySource"],
  },
  quotes: {
    icon: "quotes",
    orderBy: NEWEST,
    columns: [
      "displayName",
      "number",
      "account",
      "opportunity",
      "grossTotal",
      "state",
      "validUntilDate",
      "owner",
    ],
    flow: {
      DRAFT: ["submit", "price"],
      APPROVED: ["send"],
      SENT: ["accept", "reject"],
      REJECTED: ["newVersion", "copy"],
      EXPIRED: ["newVersion", "copy"],
    },
    defaults: yuan,
    detail: "quote",
    advice: "prices",
    adviceBelow: true,
    papers: [
      { key: "quote-zh", body: { language: "zh" } },
      { key: "quote-en", body: { language: "en" } },
      { key: "quote-warehouse", body: { language: "zh", withoutPrices: true } },
    ],
  },
  productCategories: {
    icon: "products",
    tree: { parent: "parent", orderBy: "position", show: ["code"] },
  },
  bundles: {
    oneByOne: true,
    icon: "products",
    detail: "bundle",
    flow: { DRAFT: ["activate"], ACTIVE: ["newVersion"] },
  },
  discountPolicies: {
    oneByOne: true,
    icon: "prices",
    detail: "policy",
    flow: { DRAFT: ["activate"], ACTIVE: ["pause"] },
  },
  callLists: {
    icon: "calls",
    orderBy: NEWEST,
    detail: "callList",
    references: { subjects: ["leads", "accounts", "contacts"] },
    flow: {
      DRAFT: ["start", "distribute"],
      RUNNING: ["distribute", "pause"],
      PAUSED: ["start", "distribute"],
      FINISHED: [],
    },
  },
  callEntries: {
    icon: "calls",
    orderBy: "nextTime",
    flow: { NEW: ["dial"], CALLBACK: ["dial"], RETRY: ["dial"] },
  },
  calls: { icon: "calls", orderBy: "startTime desc", flow: { ENDED: ["wrapUp"] } },
  callScripts: { oneByOne: true, icon: "notes", flow: { DRAFT: ["activate"], ACTIVE: ["newVersion"] } },
  territoryPlans: {
    oneByOne: true,
    icon: "relations",
    detail: "territoryPlan",
    orderBy: NEWEST,
    columns: ["displayName", "number", "state", "effectiveTime", "undoUntilTime", "owner"],
    flow: {
      DRAFT: ["preview"],
      PREVIEWED: ["schedule", "preview"],
      SCHEDULED: ["cancel"],
      APPLYING: ["pause", "resume"],
      APPLIED: ["undo"],
    },
    asksFirst: ["undo"],
  },
  dealRegistrations: {
    icon: "collision",
    orderBy: NEWEST,
    columns: [
      "companyName",
      "number",
      "partner",
      "amount",
      "state",
      "submitTime",
      "protectUntilDate",
      "owner",
    ],
    flow: {
      DRAFT: ["submit"],
      SUBMITTED: ["approve", "reject"],
      APPROVED: ["convert", "extend"],
    },
    path: ["DRAFT", "SUBMITTED", "APPROVED", "CONVERTED"],
    clocks: [{ field: "protectUntilDate", states: ["APPROVED"] }],
    unasked: ["evidence"],
  },
  jointWorkRequests: {
    icon: "collision",
    orderBy: NEWEST,
    columns: ["message", "account", "asked", "state", "dueTime", "owner"],
    flow: { OPEN: ["accept", "decline"] },
    clocks: [{ field: "dueTime", states: ["OPEN"] }],
  },
  leadForwards: {
    icon: "leads",
    orderBy: NEWEST,
    flow: { OFFERED: ["accept", "decline"] },
    clocks: [{ field: "expireTime", states: ["OFFERED"] }],
  },
  leadRecycleProposals: { icon: "sea", orderBy: NEWEST, flow: { OPEN: ["accept", "decline"] } },
  partners: {
    icon: "relations",
    orderBy: NEWEST,
    columns: ["displayName", "number", "account", "kind", "grade", "state", "endDate", "owner"],
    flow: {
      APPLIED: ["approve"],
      ACTIVE: ["inviteUser", "setGrade"],
      SUSPENDED: ["resume"],
    },
    path: ["APPLIED", "ACTIVE", "ENDED"],
    clocks: [{ field: "endDate", states: ["ACTIVE"] }],
    asksFirst: ["end"],
  },
  gradingRules: {
    icon: "prices",
    detail: "gradingRule",
    tabs: ["lines", "try", "accountGrades"],
    flow: { DRAFT: ["activate"], ACTIVE: [] },
    defaults: yuan,
  },
  accountGrades: { icon: "prices", orderBy: "time desc" },
  proposals: {
    oneByOne: true,
    icon: "quotes",
    detail: "proposal",
    orderBy: NEWEST,
    columns: ["displayName", "number", "kind", "opportunity", "account", "submissionTime", "state", "owner"],
    tabs: ["chapters", "lines"],
    path: ["DRAFT", "IN_REVIEW", "APPROVED", "SUBMITTED", "WON"],
    clocks: ["questionsTime", "bondTime", "submissionTime", "openingTime"].map((field) => ({
      field,
      states: ["DRAFT", "IN_REVIEW", "APPROVED", ...(field === "openingTime" ? ["SUBMITTED"] : [])],
    })),
    flow: {
      DRAFT: ["review"],
      IN_REVIEW: ["approve", "revise"],
      APPROVED: ["submit", "revise"],
      SUBMITTED: ["win", "lose"],
    },
    unasked: ["reminders"],
  },
  proposalBlocks: { icon: "notes", columns: ["displayName", "kind", "issuer", "validUntilDate"] },
  proposalTemplates: { icon: "notes" },
  appraisals: {
    icon: "forecast",
    detail: "appraisal",
    orderBy: "month desc",
    tabs: ["figures", "findings", "lines"],
    path: ["DRAFT", "PUBLISHED", "CONFIRMED"],
    clocks: [{ field: "appealUntilDate", states: ["PUBLISHED"] }],
    flow: { DRAFT: ["publish", "reckon"], PUBLISHED: ["confirm", "appeal"], APPEALED: ["confirm"] },
  },
  appraisalStandards: {
    icon: "forecast",
    defaults: () => ({ currency: "CNY" }),
    flow: { DRAFT: ["activate"], ACTIVE: ["retire"] },
  },
  upsellProposals: {
    icon: "tips",
    orderBy: NEWEST,
    columns: ["account", "product", "contract", "kind", "reason", "state", "owner"],
    flow: { OPEN: ["take", "dismiss"] },
  },
  tagGroups: { icon: "products" },
  visits: {
    icon: "visits",
    detail: "visit",
    orderBy: "plannedTime desc",
    columns: ["purpose", "account", "plannedTime", "state", "owner"],
    flow: { PLANNED: [], CHECKED_IN: ["complete"], COMPLETED: ["review"] },
    unasked: ["routePosition"],
  },
  tips: { icon: "tips", orderBy: NEWEST, flow: { PUBLISHED: ["mark", "comment"] } },
  creditProfiles: { icon: "balances" },
  profileChanges: { oneByOne: true, icon: "contacts", orderBy: NEWEST },
  products: { icon: "products", flow: { DRAFT: ["activate"], ACTIVE: [], END_OF_SALE: ["retire"] } },
  priceBooks: { icon: "prices", flow: { DRAFT: ["activate"] }, defaults: yuan },
  competitors: { icon: "competitors", flow: { ACTIVE: [], ARCHIVED: ["unarchive"] } },
  pipelines: { icon: "pipelines", flow: { DRAFT: ["activate"], ACTIVE: [] } },
  contracts: {
    icon: "contracts",
    orderBy: NEWEST,
    flow: {
      DRAFT: ["submit"],
      IN_APPROVAL: ["approve", "returnToDraft"],
      AWAITING_SIGNATURE: ["sign"],
      SIGNED: ["activate"],
      ACTIVE: ["createOrder"],
      SUSPENDED: ["resume"],
      CLOSING: ["close"],
    },
    defaults: yuan,
  },
  orders: {
    icon: "orders",
    orderBy: NEWEST,
    flow: {
      DRAFT: ["submit"],
      ACKNOWLEDGED: ["start"],
      PENDING: ["resume"],
      HELD: ["resume"],
      IN_PROGRESS: [],
      ASSESSING_CANCELLATION: ["acceptCancel", "refuseCancel"],
      PENDING_CANCELLATION: ["finishCancel"],
    },
    makes: [
      {
        collection: "deliveries",
        states: ["ACKNOWLEDGED", "IN_PROGRESS"],
        from: (order) => ({
          account: order["account"],
          plannedDate: today(),
          lines: ((order["items"] ?? []) as Record<string, unknown>[])
            .map((item) => ({ order: order.name, item: item["key"], quantity: openQuantity(item) }))
            .filter((line) => Number(line.quantity) > 0),
        }),
      },
    ],
    defaults: yuan,
  },
  deliveries: {
    icon: "deliveries",
    orderBy: NEWEST,
    flow: { DRAFT: ["ready"], READY: ["ship"], SHIPPED: ["confirm"] },
  },
  paymentPlans: { icon: "plans", orderBy: NEWEST, flow: { DRAFT: ["activate"], ACTIVE: ["invoice"] } },
  invoices: {
    icon: "invoices",
    orderBy: NEWEST,
    flow: { DRAFT: ["issue"], ISSUED: [] },
    defaults: yuan,
    makes: [
      {
        collection: "payments",
        states: ["ISSUED"],
        from: (invoice) => ({ account: invoice["account"], amount: invoice["balance"], date: today() }),
      },
      { collection: "creditNotes", states: ["ISSUED"], from: (invoice) => ({ invoice: invoice["name"] }) },
    ],
  },
  payments: {
    icon: "payments",
    orderBy: NEWEST,
    flow: { PENDING: ["confirm"], RECEIVED: ["autoAllocate", "allocate"] },
  },
  creditNotes: {
    icon: "invoices",
    orderBy: NEWEST,
    flow: { DRAFT: ["issue"], ISSUED: [] },
  },
  payouts: {
    icon: "payments",
    orderBy: NEWEST,
    columns: ["payeeName", "number", "kind", "amount", "state", "date", "owner"],
    path: ["DRAFT", "APPROVED", "SENT", "PAID"],
    flow: { DRAFT: ["approve"], APPROVED: ["send"], SENT: ["confirm", "fail"] },
  },
  allocations: { icon: "allocations", orderBy: NEWEST, flow: { ACTIVE: [] } },
  accountBalances: { icon: "balances", flow: {} },
  tickets: {
    icon: "tickets",
    orderBy: NEWEST,
    columns: [
      "displayName",
      "number",
      "account",
      "priority",
      "state",
      "queue",
      "assignee",
      "nextEscalationTime",
    ],
    flow: {
      ACKNOWLEDGED: ["start", "assign"],
      IN_PROGRESS: ["resolve", "wait"],
      HELD: ["resume"],
      PENDING: ["resume"],
      RESOLVED: ["close", "reopen"],
      CLOSED: ["reopen"],
    },
    board: {
      field: "state",
      filter: "",
      moves: {
        ACKNOWLEDGED: ["release"],
        IN_PROGRESS: ["start", "resume", "reopen"],
        PENDING: ["wait"],
        HELD: ["hold"],
        RESOLVED: ["resolve"],
      },
      card: ["account", "priority", "assignee", "nextEscalationTime"],
    },
  },
  campaigns: {
    icon: "campaigns",
    orderBy: NEWEST,
    columns: ["displayName", "kind", "state", "startDate", "endDate", "budget", "leadCount", "owner"],
    flow: {
      DRAFT: ["submit"],
      APPROVED: ["launch"],
      RUNNING: ["enrol", "finish"],
      PAUSED: ["resume"],
      FINISHED: ["evaluate"],
    },
  },
  forms: {
    icon: "forms",
    flow: { DRAFT: ["publish"], LIVE: ["close"] },
    publicPage: { path: (id) => `/f/${id}`, states: ["LIVE"], label: "webForm.address" },
    columns: ["displayName", "state", "campaign", "submissionCount", "updateTime"],
  },
  submissions: {
    icon: "forms",
    orderBy: NEWEST,
    columns: ["displayName", "form", "state", "createTime", "lead"],
    flow: { QUARANTINED: ["release", "markSpam"], CONFIRMED: ["qualify"] },
  },
  segments: { oneByOne: true, icon: "segments" },
  campaignMembers: { icon: "contacts" },
  tasks: {
    icon: "tasks",
    orderBy: "dueTime",
    flow: { OPEN: ["complete", "start"], IN_PROGRESS: ["complete"] },
    board: {
      field: "state",
      filter: "",
      moves: { OPEN: [], IN_PROGRESS: ["start"], DONE: ["complete"], CANCELLED: ["cancel"] },
      card: ["dueTime", "priority", "owner"],
      orderBy: "dueTime",
    },
  },
  calendarEvents: {
    icon: "calendar",
    orderBy: "startTime desc",
    columns: ["displayName", "kind", "startTime", "location", "state", "owner"],
    kinds: { start: "localTime", end: "localTime", recurrence: "recurrence" },
    advice: "times",
    defaults: () => ({ kind: "MEETING", timeZone: Intl.DateTimeFormat().resolvedOptions().timeZone }),
    unasked: ["extraDates", "exceptDates", "overrides"],
    flow: { SCHEDULED: ["respond", "complete"] },
  },
  mailAccounts: {
    oneByOne: true,
    hidden: true,
    flow: { ACTIVE: ["fetch", "test"], PAUSED: ["resume"], FAILING: ["resume", "test"] },
  },
  mailMessages: {
    oneByOne: true,
    hidden: true,
    detail: "mail",
    orderBy: "occurTime desc",
    unasked: ["read", "links", "replyTo"],
    flow: {
      RECEIVED: ["file"],
      SENT: ["file"],
      FAILED: ["retry"],
      QUEUED: [],
      SENDING: [],
      BOUNCED: [],
      DRAFT: [],
    },
  },
  mailRecords: { icon: "mail", orderBy: "occurTime desc" },
  mailTemplates: { icon: "mail" },
  faxes: { icon: "mail", orderBy: NEWEST },
  calendarFeeds: { oneByOne: true, icon: "calendar" },
  notes: { icon: "notes", orderBy: "updateTime desc" },
  posts: {
    oneByOne: true,
    icon: "notes",
    detail: "post",
    orderBy: "updateTime desc",
    columns: ["displayName", "board", "kind", "state", "publishTime", "owner"],
    flow: { DRAFT: ["publish"], PUBLISHED: [], ARCHIVED: [] },
  },
  comments: { hidden: true, noForm: true },
  files: {
    icon: "files",
    orderBy: NEWEST,
    noForm: true,
    detail: "file",
    tabs: ["versions"],
    flow: { "": ["move", "hold"] },
  },
  folders: {
    icon: "files",
    orderBy: "displayName",
    flow: { "": ["move"] },
    tree: {
      parent: "parent",
      move: "move",
      orderBy: "displayName",
      show: ["everyone", "audienceDepartments"],
    },
  },
  employees: {
    icon: "employees",
    detail: "employee",
    reserved: { setSkills: "name" },
    asked: ["department"],
    tabs: ["rights", "sessions", "belongings", "keys"],
    flow: { INVITED: ["activate"], ACTIVE: [], FROZEN: ["unfreeze", "offboard"], OFFBOARDED: ["reinstate"] },
    makes: [
      {
        collection: "transfers",
        states: ["ACTIVE", "FROZEN"],
        from: (employee) => ({ from: employee.name, reason: "RESIGN" }),
      },
    ],
    suggest: {
      roles: { collection: "roles", value: "code" },
      role: { collection: "roles", value: "code" },
      "temporaryRoles.role": { collection: "roles", value: "code" },
      "successions.collections": "collections",
    },
  },
  departments: {
    icon: "departments",
    detail: "department",
    tabs: ["team"],
    flow: { ACTIVE: [], CLOSED: ["reopen"] },
    tree: { parent: "parent", move: "move", orderBy: "order", show: ["manager", "kind", "state"] },
  },
  roles: {
    icon: "roles",
    flow: { ACTIVE: [] },
    detail: "role",
    columns: ["displayName", "code", "scope", "kind", "state"],
    suggest: { permissions: "permissions", "grants.collection": "collections" },
  },
  dictionaries: { icon: "dictionaries", detail: "dictionary", flow: { "": ["publish"] } },
  customFields: {
    icon: "fields",
    flow: { DRAFT: ["activate"], ACTIVE: [], HIDDEN: ["activate"] },
    suggest: {
      collection: "collections",
      references: "collections",
      dictionary: { collection: "dictionaries", value: "key" },
      roles: { collection: "roles", value: "code" },
    },
    showWhen: {
      unique: ofKind("TEXT", "NUMBER", "DATE", "REFERENCE", "EMPLOYEE", "DEPARTMENT", "EMAIL", "PHONE"),
      choices: ofKind("CHOICE", "MULTI_CHOICE"),
      dictionary: ofKind("CHOICE", "MULTI_CHOICE"),
      references: ofKind("REFERENCE"),
      formula: ofKind("FORMULA"),
      maxLength: ofKind("TEXT", "LONG_TEXT"),
      pattern: ofKind("TEXT", "LONG_TEXT"),
      minValue: ofKind("NUMBER", "PERCENT", "MONEY", "DATE"),
      maxValue: ofKind("NUMBER", "PERCENT", "MONEY", "DATE"),
      searchable: ofKind("TEXT", "LONG_TEXT", "URL", "EMAIL", "PHONE"),
    },
  },
  numberRules: {
    icon: "numbers",
    detail: "numberRule",
    advice: "numbers",
    flow: { DRAFT: ["activate"], ACTIVE: ["verify", "advance"] },
    suggest: { collection: "collections", assignOn: "moments" },
  },
  approvalPolicies: {
    icon: "approvals",
    detail: "approvalPolicy",
    flow: { DRAFT: ["activate"], ACTIVE: [] },
    suggest: { action: "actions", roles: { collection: "roles", value: "code" } },
  },
  bulkJobs: {
    icon: "imports",
    suggest: { collection: "collections" },
    orderBy: NEWEST,
    noForm: true,
    flow: { RUNNING: ["cancel"], QUEUED: ["cancel"] },
  },
  auditEntries: {
    icon: "audit",
    hidden: true,
    detail: "auditEntry",
    orderBy: "time desc",
    columns: ["resource", "action", "actor", "time", "address"],
    suggest: { action: "deeds", subject: "facts" },
  },
  sessions: { hidden: true, icon: "keys", orderBy: "seenTime desc", flow: { OPEN: ["end"] } },
  devices: {
    hidden: true,
    icon: "keys",
    orderBy: "seenTime desc",
    flow: { KNOWN: ["revoke"], REVOKED: ["allow"] },
  },
  backups: {
    hidden: true,
    icon: "imports",
    orderBy: NEWEST,
    noForm: true,
    flow: {
      DONE: ["verify"],
      VERIFIED: ["proposeRestore"],
      FAILED: ["verify"],
      PURGED: [],
      REQUESTED: [],
      RUNNING: [],
    },
    asksFirst: ["restore", "withdrawRestore"],
  },
  apiKeys: { hidden: true, suggest: { permissions: "permissions" }, flow: { ACTIVE: ["revoke"] } },
  approvals: {
    hidden: true,
    suggest: { action: "actions" },
    flow: {
      PENDING: ["approve", "reject", "return"],
      RETURNED: ["resubmit"],
      STALE: ["resubmit"],
      FAILED: ["retry"],
    },
  },
  notifications: { hidden: true },
  notificationPreferences: { hidden: true },
  attendance: {
    oneByOne: true,
    icon: "plans",
    orderBy: "punchTime desc",
    unasked: ["uptimeMs", "sentUptimeMs", "signature", "device", "offline", "mockLocation", "datum"],
  },
  attendanceDevices: { oneByOne: true, hidden: true },
  notificationRules: {
    icon: "notifications",
    flow: { DRAFT: ["activate", "test"], ACTIVE: ["test", "pause"], PAUSED: ["activate", "test"] },
    suggest: { collection: "collections", fact: "facts" },
    showWhen: {
      fact: { field: "trigger", is: ["FACT"] },
      dateField: { field: "trigger", is: ["DATE"] },
      offsetDays: { field: "trigger", is: ["DATE"] },
      yearly: { field: "trigger", is: ["DATE"] },
      repeatDays: { field: "trigger", is: ["DATE"] },
      repeatUntil: { field: "trigger", is: ["DATE"] },
      silentDays: { field: "trigger", is: ["SILENCE"] },
      weekdays: { field: "trigger", is: ["SCHEDULE"] },
      clock: { field: "trigger", is: ["DATE", "SILENCE", "SCHEDULE"] },
    },
  },
  savedViews: { hidden: true, suggest: { collection: "collections" } },
  calendarAccounts: { oneByOne: true },
  supportRequests: { oneByOne: true },
  carePlans: { oneByOne: true },
  refunds: { oneByOne: true },
  workPlans: { oneByOne: true },
  workSummaries: { oneByOne: true },
  timeline: { hidden: true },
  facts: {
    columns: ["title", "kind", "occurTime", "actor", "amount", "departmentPath", "owner"],
  },
  opportunityFacts: { keyed: { stage } },
};

/** Fields of a line that hold the key of a line of the record that the same line names. */
export const LINE_KEYS: Record<string, { through: string; list: string }> = {
  item: { through: "order", list: "items" },
  orderItem: { through: "order", list: "items" },
};

/** Keys that tie a line to what it came from: kept, never asked for, except where the line must be given one. */
export const UNASKED_KEYS = new Set(["key", "contractLine", "quoteLine"]);

const today = () => {
  const now = new Date();
  return { year: now.getFullYear(), month: now.getMonth() + 1, day: now.getDate() };
};

/** What of an order's item stands on no delivery yet, as the decimal text that the server takes. */
const openQuantity = (item: Record<string, unknown>) =>
  String(
    Number(
      (Number(item["quantity"]) - Number(item["delivered"] ?? 0) - Number(item["prepared"] ?? 0)).toFixed(6),
    ),
  );

export const screenOf = (collection: string): Screen => SCREENS[collection] ?? {};
