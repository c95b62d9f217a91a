/**
 * The one place where a collection gets more than its declaration in the protos says:
 * where it stands in the menu, its icon, the order of its columns, its board, its special page.
 * A collection that is not named here still has all its screens.
 */

export interface Group {
  key: string;
  /** Collections in the order of the menu; others that declare this menu group follow. */
  collections: string[];
  pages?: { key: string; path: string; icon: string; permission?: string; needs?: string }[];
}

export const MENU: Group[] = [
  {
    key: "customers",
    collections: ["accounts", "contacts", "interactions", "accountRelations", "imports"],
  },
  {
    key: "sales",
    collections: ["leads", "opportunities", "quotes", "products", "priceBooks", "pipelines"],
    pages: [{ key: "funnel", path: "/funnel", icon: "funnel", needs: "opportunities" }],
  },
  { key: "contracts", collections: ["contracts", "orders", "deliveries"] },
  { key: "money", collections: ["paymentPlans", "invoices", "payments", "allocations"] },
  { key: "service", collections: ["tickets"] },
  { key: "marketing", collections: ["campaigns", "segments", "campaignMembers"] },
  {
    key: "work",
    collections: ["tasks", "calendarEntries", "files"],
    pages: [{ key: "approvals", path: "/approvals", icon: "approvals", needs: "approvals" }],
  },
  { key: "insight", collections: [] },
  {
    key: "settings",
    collections: [
      "employees",
      "departments",
      "roles",
      "dictionaries",
      "numberRules",
      "customFields",
      "approvalPolicies",
      "auditEntries",
      "bulkJobs",
    ],
    pages: [{ key: "keys", path: "/keys", icon: "keys", needs: "apiKeys" }],
  },
];

/** Menu groups that a proto may name differently. */
export const MENU_ALIAS: Record<string, string> = {
  orders: "contracts",
  billing: "money",
  servicedesk: "service",
  workspace: "settings",
  organisation: "settings",
  customer: "customers",
};

export interface Board {
  /** The field whose values are the columns. */
  field: string;
  /** Collection and list field that hold the columns, and the field of the record that names the holder. */
  source: { collection: string; list: string; through: string };
  /** The money field that a column adds up. */
  sum: string;
  /** Only these records stand on the board. */
  filter: string;
  /** Verbs that move a card, the first one that exists counts. */
  verbs: string[];
  card: string[];
}

export interface Screen {
  icon?: string;
  /** First columns of the list, before what the declaration marks as listed. */
  columns?: string[];
  /** Order until somebody picks another. */
  orderBy?: string;
  board?: Board;
  /** Verbs that stand as buttons, by state; the rest is in the menu. */
  flow?: Record<string, string[]>;
  /** Fields that only make sense together with a value of another one. */
  showWhen?: Record<string, { field: string; is: string[] }>;
  /** Values that a new record starts with. */
  defaults?: Record<string, unknown>;
  /** A page written by hand in place of the generic one. */
  detail?: "account";
  /** A page of its own; kept out of the generated menu entries. */
  hidden?: boolean;
}

const individual = { field: "kind", is: ["INDIVIDUAL"] };
const company = { field: "kind", is: ["COMPANY", ""] };

export const SCREENS: Record<string, Screen> = {
  accounts: {
    icon: "accounts",
    detail: "account",
    orderBy: "updateTime desc",
    flow: { ACTIVE: ["assign"], POOLED: ["assign"], ARCHIVED: ["unarchive"] },
    columns: [
      "displayName",
      "number",
      "level",
      "state",
      "industry",
      "source",
      "owner",
      "lastInteractionTime",
    ],
    defaults: { kind: "COMPANY" },
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
    columns: ["displayName", "account", "title", "phones", "decisionRole", "state", "owner"],
  },
  interactions: {
    icon: "interactions",
    orderBy: "startTime desc",
    columns: ["summary", "account", "channel", "startTime", "owner"],
  },
  accountRelations: { icon: "relations" },
  imports: { icon: "imports", orderBy: "createTime desc" },
  leads: { icon: "leads", orderBy: "createTime desc" },
  opportunities: {
    icon: "opportunities",
    orderBy: "updateTime desc",
    columns: ["displayName", "number", "account", "amount", "stage", "state", "expectedCloseDate", "owner"],
    board: {
      field: "stage",
      source: { collection: "pipelines", list: "stages", through: "pipeline" },
      sum: "amount",
      filter: 'state = "OPEN"',
      verbs: ["moveStage", "advance"],
      card: ["account", "amount", "expectedCloseDate", "owner"],
    },
    flow: { OPEN: ["win", "lose"] },
  },
  quotes: { icon: "quotes", orderBy: "createTime desc" },
  products: { icon: "products" },
  priceBooks: { icon: "prices" },
  pipelines: { icon: "pipelines" },
  contracts: { icon: "contracts", orderBy: "createTime desc" },
  orders: { icon: "orders", orderBy: "createTime desc" },
  deliveries: { icon: "deliveries", orderBy: "createTime desc" },
  paymentPlans: { icon: "plans" },
  invoices: { icon: "invoices", orderBy: "createTime desc" },
  payments: { icon: "payments", orderBy: "createTime desc" },
  allocations: { icon: "allocations" },
  tickets: { icon: "tickets", orderBy: "createTime desc" },
  campaigns: { icon: "campaigns" },
  segments: { icon: "segments" },
  campaignMembers: { icon: "contacts" },
  employees: { icon: "employees" },
  departments: { icon: "departments" },
  roles: { icon: "roles" },
  dictionaries: { icon: "dictionaries" },
  numberRules: { icon: "numbers" },
  auditEntries: { icon: "audit", orderBy: "time desc" },
  apiKeys: { hidden: true },
  notifications: { hidden: true },
  approvals: { hidden: true },
  timeline: { hidden: true },
  consents: { icon: "consents" },
};

export const screenOf = (collection: string): Screen => SCREENS[collection] ?? {};
